"""One file per engine library; each has ``load(bundle, manifest, threads, backend) -> Engine``."""

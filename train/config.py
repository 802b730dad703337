"""What ``python -m train`` is asked, and the networks that it trains as rows of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from runtime import cli
from runtime.errors import HedgeError
from runtime.numbers import Count, Positive, Share, Side, Threads, Weight
from train.loop.settings import RunConfig

BackboneName = Literal["resnet50", "resnet18", "mobilenet_v2", "mobilenet_v3_large"]
SHIPPED = Path(__file__).parent / "weights"  # checkpoints that come with the package, by name
TIMM = "timm/"  # in front of the names of timm's networks
SqueezeExciteGate = Literal["sigmoid", "softmax"]
HedName = Literal["vgg16", "lite", "fpn"]
EdgeName = Literal["vgg16", "lite", "fpn", "shared", "supervised", "blank"]
PresetName = Literal["small"]
DecoderName = Literal["concat", "deep", "taper", "add", "narrow", "separable"]
VariantName = Literal["vanilla", "dlse", "dlse_sf", "dlse_hed"]

DEFAULT_BACKBONE: BackboneName = "mobilenet_v2"
DEFAULT_DECODER: DecoderName = "deep"  # docs/results/2026-11-29-decoders.md says why
FIRST_DECODER: DecoderName = "concat"  # of files from before there was a choice
DEFAULT_EDGES: EdgeName = "shared"  # of dlse_hed: benchmarks/results/ablation.md says why


@dataclass(frozen=True)
class Variant:
    """A row of the product's table of models: Squeeze-Excitation gate, and HED or not."""

    se: SqueezeExciteGate | None
    hed: bool


VARIANTS: dict[VariantName, Variant] = {
    "vanilla": Variant(se=None, hed=False),
    "dlse": Variant(se="sigmoid", hed=False),
    "dlse_sf": Variant(se="softmax", hed=False),
    "dlse_hed": Variant(se="sigmoid", hed=True),
}


@dataclass(frozen=True)
class EdgeDesign:
    """Where a model's edge maps come from, and whether its decoder takes them.

    network: a separate edge network; trunk: side outputs on the segmentation network's stages,
    supervised with edges; fused: edge maps are an input of the decoder, not only supervision.
    """

    network: HedName | None = None
    trunk: bool = False
    fused: bool = True


EDGES: dict[EdgeName, EdgeDesign] = {
    "vgg16": EdgeDesign(network="vgg16"),
    "lite": EdgeDesign(network="lite"),
    "fpn": EdgeDesign(network="fpn"),
    "shared": EdgeDesign(trunk=True),
    "supervised": EdgeDesign(trunk=True, fused=False),
    "blank": EdgeDesign(),  # an empty map in HED's place: the control for the extra weights
}


@dataclass(frozen=True)
class DecoderDesign:
    """How the decoder brings the backbone's features together, from the deepest up; edges at 1/4.

    skips: the backbone's features join what comes from below side by side, or as a sum, for which
    they are brought to the same width; fuse: the 3×3 behind each join; aspp: its dilated 3×3 are
    dense over all channels of the backbone, or over those that its 1×1 answers (narrow), or
    separable; rates: its dilations; skip16: whether features at 1/16 join as well, side by side;
    taper: whether what goes up from 1/8 is as narrow as what leaves 1/4; output_stride: of the
    backbone, where --output-stride does not say.
    """

    skips: Literal["concat", "add"]
    fuse: Literal["dense", "separable"] = "dense"
    aspp: Literal["dense", "narrow", "separable"] = "dense"
    rates: tuple[int, ...] = (6, 12, 18)
    skip16: bool = False
    taper: bool = False
    output_stride: Literal[16, 32] = 16


DECODERS: dict[DecoderName, DecoderDesign] = {
    "concat": DecoderDesign("concat"),
    "deep": DecoderDesign("concat", rates=(3, 6, 9), skip16=True, output_stride=32),
    "taper": DecoderDesign("concat", rates=(3, 6, 9), skip16=True, taper=True, output_stride=32),
    "add": DecoderDesign("add"),
    "narrow": DecoderDesign("add", aspp="narrow"),
    "separable": DecoderDesign("add", fuse="separable", aspp="separable"),
}


@dataclass(frozen=True)
class ModelConfig:
    """The network, completely: two models with equal configs have equal state-dict keys.

    output_stride: 8, 16 or 32, of the backbone's last stage; atrous_rates: ASPP's, in pixels of
    that stage; se: gate of the Squeeze-Excitation blocks, None for none; hed: a row of EDGES,
    None for a model without edges; decoder: a row of DECODERS.
    """

    backbone: str
    num_classes: int
    output_stride: Literal[8, 16, 32] = 16
    atrous_rates: tuple[int, ...] = (6, 12, 18)
    se: SqueezeExciteGate | None = None
    hed: EdgeName | None = None
    decoder: DecoderName = FIRST_DECODER

    @property
    def edges(self) -> EdgeDesign:
        """The row of EDGES, or one that has nothing."""
        return EDGES[self.hed] if self.hed else EdgeDesign(fused=False)

    @property
    def edge_map(self) -> bool:
        """Whether an edge map, HED's or a blank one, enters the decoder."""
        return self.edges.fused and not self.edges.trunk


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Train a segmentation model; writes runs/NAME/{config.json,metrics.jsonl,best.pt,last.pt}.

    Examples:

    python -m train --variant dlse_hed --data cityscapes --weights imagenet

    torchrun --nproc-per-node 4 -m train --variant dlse_hed --batch 32
    """

    variant: VariantName = "dlse_hed"
    """Which model: plain DeepLab, with SE, with softmax SE, with SE and HED edges."""
    backbone: str | None = None
    """The network that extracts features: resnet50, resnet18, mobilenet_v2 or mobilenet_v3_large
    of torchvision, or timm/NAME for any network of timm with feature maps at 1/4 and 1/8.
    Default: that of --start, else mobilenet_v2."""
    data: Path | None = None
    """Cityscapes tree, folder with images/labels/classes.json, text list, or what a labelling
    tool exported (COCO, CVAT, YOLO and others), unpacked or as a zip. Default:
    $CITYSCAPES_DATASET, else data/cityscapes, else a generated street scene."""
    also: tuple[str, ...] = ()
    """More data sets to train on, each PATH or PATH:WEIGHT, whose images are then drawn WEIGHT
    times as often. Their classes are those of --data by name, others are ignored; --data alone
    validates."""
    weights: str | None = None
    """Backbone weights: a state-dict file, or "imagenet" (torchvision downloads them, for its own
    networks)."""
    start: Path | None = None
    """Run or checkpoint to fine-tune, or street19, the shipped one; layers that do not fit (other
    classes) are initialised anew."""
    edge_weights: Path | None = None
    """Weights of the edge network (--hed vgg16, lite or fpn), which is then frozen: published key
    names, an edges.pt of train.hed, or a checkpoint. Without them it is trained as well, on the
    label boundaries."""
    teacher: Path | None = None
    """Run or checkpoint of a larger or better model of the same classes, whose class scores are
    learned beside the labels: on each crop, also where a pixel has no label."""
    teacher_weight: Weight = 1.0
    """Weight of the teacher's loss (divergence from its softened probabilities), added to the
    others."""
    hed: EdgeName | None = None
    """Edges of dlse_hed: side outputs of the backbone that feed the decoder (shared, the default)
    or are only supervised (supervised, no cost at run time), a separate network (vgg16, or a light
    one: lite, fpn), or empty maps (blank, for comparison)."""
    decoder: DecoderName | None = None
    """How the backbone's features are brought together: docs/results say what each costs. Default:
    that of --start, else deep."""
    output_stride: Literal[8, 16, 32] | None = None
    """Of the backbone's last stage. Default: 32 for the decoder deep, else 16, which is 2.6 to 2.9
    times faster than 8."""
    size: tuple[Side, Side] | None = None
    """Network input H W at validation. Default: the images' own, at most 1024 wide."""
    crop: tuple[Side, Side] | None = None
    """Training crop H W. Default: the same as size."""
    scale: tuple[Positive, Positive] = (0.5, 2.0)
    """Range of the random scaling before the crop."""
    lr: Positive = 3e-3
    """Peak learning rate of the new layers (AdamW, poly decay with power 0.9)."""
    backbone_lr: Weight = 0.3
    """Learning rate of a pretrained backbone, as a multiple of --lr."""
    weight_decay: Weight = 1e-2
    """AdamW's weight decay; 0 for norms and biases."""
    freeze_bn: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 0
    """Epochs for which the backbone's batch-norm statistics are frozen."""
    edge_loss: Weight = 1.0
    """Weight of the edge loss, added to the segmentation loss."""
    ohem: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """Online hard example mining: the share of pixels, hardest first, that count (e.g. 0.25)."""
    label_smoothing: Share = 0.0
    """Label smoothing: share of each target spread evenly over all classes (e.g. 0.05)."""
    class_balance: Share = 0.3
    """Class weight = frequency^-x; 0 is off. Weights are scaled to a mean of 1 over the pixels."""
    oversample: Share = 0.3
    """Repeat-factor threshold t (LVIS): images of classes with frequency f < t are oversampled
    by sqrt(t / f); 0 is off."""
    jaccard: Weight = 1.0
    """Weight of the soft Jaccard loss (1 - mean IoU over an image's classes), added to the
    cross-entropy."""
    loss_stride: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    """Stride of the label pixels that the losses compare, offset by the step. The network's scores
    are at 1/4, so 2 loses little, and the losses take a quarter of the time."""
    aux_weight: Weight = 0.0
    """Weight of the cross-entropy of a second head on the backbone's last features (at 1/16), which
    is there in training alone: neither kept in best.pt nor exported. 0 is off; 0.4 is usual."""
    validate_every: Count = 1
    """Epochs between validations; the last epoch is always validated."""
    workers: Threads = 2
    """Processes that load images; they do not change the result."""
    patience: Count | None = None
    """End the run after so many validations in a row without a better mIoU. Default: never."""
    preset: PresetName | None = None
    """Settings for a kind of data, in place of the defaults; options given beside it win. small:
    tens of images, a few minutes on a CPU."""
    license: str | None = None
    """Terms of the weights, kept in checkpoints and bundles. Default: those of --start and
    --teacher."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(BackboneName)
        if self.backbone and self.backbone not in known and not self.backbone.startswith(TIMM):
            raise HedgeError(
                f"--backbone {self.backbone}: not one of {', '.join(known)}, nor {TIMM}NAME"
            )
        if self.scale[0] > self.scale[1]:
            raise HedgeError(f"--scale is a range, smaller number first, not {self.scale}")
        if self.hed and not VARIANTS[self.variant].hed:
            raise HedgeError(f"--hed {self.hed}: variant {self.variant} has no edge network")

    @classmethod
    def given(cls, arguments: Sequence[str]) -> TrainConfig | None:
        """Those of the run that is resumed, else of the preset; HedgeError if that is no run."""
        resumed = super().given(arguments)
        return resumed or PRESETS.get(cli.argument(arguments, "--preset") or "")

    @property
    def default_name(self) -> str:
        """VARIANT-BACKBONE."""
        return f"{self.variant}-{self.backbone_name.removeprefix(TIMM)}"

    @property
    def backbone_name(self) -> str:
        """The backbone's name, the default one where none is named."""
        return self.backbone or DEFAULT_BACKBONE

    def model(self, num_classes: int) -> ModelConfig:
        """The network that this run trains."""
        row, decoder = VARIANTS[self.variant], self.decoder or DEFAULT_DECODER
        design = DECODERS[decoder]
        return ModelConfig(
            backbone=self.backbone_name,
            num_classes=num_classes,
            output_stride=self.output_stride or design.output_stride,
            atrous_rates=design.rates,
            se=row.se,
            hed=(self.hed or DEFAULT_EDGES) if row.hed else None,
            decoder=decoder,
        )


# What --preset sets; docs/how-to/train.md says why.
PRESETS: dict[str, TrainConfig] = {
    "small": TrainConfig(
        preset="small",
        epochs=30,
        batch=4,
        ema=0.98,
        crop=(256, 256),
        scale=(0.6, 1.6),
        loss_stride=2,
        validate_every=5,
    ),
}

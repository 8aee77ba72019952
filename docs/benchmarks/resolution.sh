#!/usr/bin/env bash
# What an engine's input size costs and gives: ESeg-Lite-S and ESeg-Mobile at CamVid's 480x360 and larger, scored on
# CamVid's val and timed in turn -> resolution.json, ../images/resolution.svg
#
# Needs CamVid below ../shared/datasets, and an otherwise idle machine; about 4 minutes on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
camvid=../shared/datasets/camvid

engines=()
for model in eseg_lite_s eseg_mobile; do
    for size in 480x360 576x432 672x504 768x576; do
        eseg export "engines/${model}_camvid.json" --size $size --name "${model}_$size" --data "$camvid" --out out/resolution
        engines+=("out/resolution/${model}_$size.json")
    done
done
eseg bench --engine "${engines[@]}" --runtime openvino --data "$camvid" --split val \
    --plot docs/images/resolution.svg --json docs/benchmarks/resolution.json

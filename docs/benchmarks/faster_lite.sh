#!/usr/bin/env bash
# The search for a network that is faster than ESeg-Lite-S and as accurate: docs/models.md tells what it found.
#
#   docs/benchmarks/faster_lite.sh latency     how long each variant takes, untrained    -> faster_lite_latency.json
#   docs/benchmarks/faster_lite.sh search      a short training of the promising ones    -> runs/search_*
#   docs/benchmarks/faster_lite.sh accuracy    the winner beside ESeg-Lite-S, all sizes  -> resolution.json, .svg
#
# Needs CamVid below ../shared/datasets and an otherwise idle machine; about 3, 16 and 2 minutes on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
lite=eseg_lite_s
camvid=../shared/datasets/camvid

latency() {
    # kernels, expansion, width, depth, levels, head width; and the encoder that ImageNet weights fit
    eseg bench --runtime openvino --size 480x360 --bf16 --int8 --repeat 5 --json docs/benchmarks/faster_lite_latency.json \
        --model $lite $lite+kernel=3 $lite+kernel=3+expansion=4 $lite+kernel=3+encoder_depth=1 \
        $lite+kernel=3+encoder_width=0.5 $lite+kernel=3+encoder_width=0.5+expansion=4 \
        $lite+kernel=3+encoder_width=0.6+expansion=3 $lite+kernel=3+bifpn_channels=48 $lite+max_level=6 \
        $lite+kernel=3+max_level=6 $lite+kernel=3+max_level=6+encoder_depth=1 $lite+kernel=3+max_level=6+min_level=2 \
        eseg_mobile eseg_mobile+max_level=9 eseg_mobile+min_level=3 eseg_mobile+min_level=3+fused_stages=1 \
        eseg_mobile+min_level=3+fused_stages=1,2
}

search() {
    for change in kernel=3 kernel=3+max_level=6 kernel=3+max_level=6+encoder_depth=1 kernel=3+max_level=6+min_level=2; do
        eseg train config/train/faster_lite_search.yaml model=$lite+$change name="search_${change//[=+]/_}"
    done
}

accuracy() {
    eseg bench --engine engines/{eseg_lite_s,eseg_lite_fast,eseg_mobile}_camvid.json \
        --size 480x360 576x432 672x504 768x576 --runtime openvino --data "$camvid" --split val \
        --json docs/benchmarks/resolution.json --plot docs/images/resolution.svg
}

case ${1-} in
    latency | search | accuracy) "$1" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac

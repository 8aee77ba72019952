#!/usr/bin/env bash
# The search for a network that is faster than ESeg-Lite-S and as accurate: docs/models.md tells what it found.
#
#   docs/benchmarks/faster_lite.sh latency     how long each variant takes, untrained    -> faster_lite_latency.json
#   docs/benchmarks/faster_lite.sh accuracy    a short training of the promising ones    -> faster_lite.json, .svg
#
# Needs runs/eseg_lite_s_camvid_distilled, runs/eseg_lite_fast_camvid_distilled and runs/eseg_mobile_camvid, CamVid below
# ../shared/datasets, and an otherwise idle machine; about 3 and 25 minutes on two CPU cores.
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
        eseg_mobile eseg_mobile+min_level=3 eseg_mobile+min_level=3+max_level=6 \
        eseg_mobile+min_level=3+max_level=6+fused_stages=1 eseg_mobile+min_level=3+max_level=6+fused_stages=1,2
}

accuracy() {
    eseg release runs/eseg_lite_fast_camvid_distilled --name eseg_lite_fast_camvid --size 672x504 --data "$camvid" \
        --precisions int8 --out out/search
    engines=({engines/eseg_lite_s,out/search/eseg_lite_fast}_camvid{,_int8}.json)
    for size in 480x360 576x432; do
        eseg export engines/eseg_lite_s_camvid.json --size $size --name eseg_lite_s_$size --out out/search
        engines+=("out/search/eseg_lite_s_$size.json")
    done
    for change in kernel=3 kernel=3+max_level=6 kernel=3+max_level=6+encoder_depth=1 kernel=3+max_level=6+min_level=2; do
        run=search_${change//[=+]/_}
        [ -e "runs/$run/best.ckpt" ] || eseg train config/train/faster_lite_search.yaml model=$lite+$change name="$run"
        eseg export "runs/$run/best.ckpt" --name "$change" --size 672x504 --data "$camvid" --out out/search
        engines+=("out/search/$change.json")
    done
    eseg bench --engine "${engines[@]}" --runtime openvino --data "$camvid" --split val \
        --json docs/benchmarks/faster_lite.json --plot docs/images/faster_lite.svg
}

case ${1-} in
    latency | accuracy) "$1" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac

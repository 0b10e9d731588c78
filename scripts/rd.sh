#!/bin/sh
# Rate-distortion points as CSV on stdout: rd.sh TILEFIT PICTURE.png ... ; MODEL, EFFORT and QUALITIES may be set.
set -eu
tilefit=$1
shift
model=${MODEL:-pyramid} effort=${EFFORT:-5} qualities=${QUALITIES:-"20 40 55 70 85 100"}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
field() { sed -E "s/.*\"$1\":\"?([^,\"}]*).*/\1/" "$2"; }
echo image,codec,setting,bytes,bpp,psnr,ms_ssim,encode_s,decode_s
for picture in "$@"; do
    name=$(basename "$picture" .png)
    for q in $qualities; do
        "$tilefit" encode "$picture" -o "$folder/x.tfit" -f --quiet --json --model "$model" -e "$effort" -q "$q" >"$folder/encode"
        "$tilefit" decode "$folder/x.tfit" -o "$folder/x.png" -f --json >"$folder/decode"
        echo "$name,tilefit-$model-e$effort,q$q,$(field bytes "$folder/encode"),$(field bpp "$folder/encode"),$(field psnr "$folder/encode"),$(field ms_ssim "$folder/encode"),$(field seconds "$folder/encode"),$(field seconds "$folder/decode")"
    done
done

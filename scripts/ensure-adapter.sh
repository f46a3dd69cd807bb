#!/usr/bin/env bash
# Makes sure that the GPU path can be tested: exits 0 where a Vulkan adapter can answer, software or hardware.
#
# Metal and DX12 come with macOS and Windows. On Linux an adapter needs the Vulkan loader, a driver (an ICD
# file), and, unless the driver is a software one, a device node. Where something is missing, root on Debian
# and Ubuntu gets Mesa's software driver from apt; everybody else is told what to install, and the script
# fails. The same package holds RADV, AMD's driver, which compiles kernels without a GPU for cli/tests/isa.rs.
set -euo pipefail

[ "$(uname -s)" = Linux ] || exit 0

has_loader() {
    local folder
    for folder in /usr/lib /usr/lib64 /usr/local/lib /lib /lib64 /usr/lib/*-linux-gnu*; do
        if [ -e "$folder/libvulkan.so.1" ]; then return 0; fi
    done
    return 1
}

has_driver() {
    local icd
    for icd in /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json; do
        [ -e "$icd" ] || continue
        case "${icd##*/}" in
            lvp_* | *swiftshader*) return 0 ;; # needs no hardware
        esac
        if ls /dev/dri/renderD* /dev/nvidia0 /dev/dxg >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

has_radv() {
    local icd
    for icd in /usr/share/vulkan/icd.d/radeon_icd*.json /etc/vulkan/icd.d/radeon_icd*.json \
        /usr/local/share/vulkan/icd.d/radeon_icd*.json; do
        if [ -e "$icd" ]; then return 0; fi
    done
    return 1
}

has_all() { has_loader && has_driver && has_radv; }

if has_all; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Mesa's Vulkan drivers: the software one, and AMD's compiler" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers
    if has_all; then exit 0; fi
fi

cat >&2 <<'HOW'
error: no Vulkan adapter, or no RADV (which checks the kernels' machine code, no AMD GPU needed), so the GPU path cannot
be tested. Install both:
  Debian, Ubuntu   sudo apt-get install libvulkan1 mesa-vulkan-drivers
  Fedora           sudo dnf install vulkan-loader mesa-vulkan-drivers
  Arch             sudo pacman -S vulkan-icd-loader vulkan-swrast vulkan-radeon
HOW
exit 1

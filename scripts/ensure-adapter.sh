#!/usr/bin/env bash
# Makes sure that the GPU path can be tested: exits 0 where a Vulkan adapter can answer, software or hardware.
#
# Metal and DX12 come with macOS and Windows. On Linux an adapter needs the Vulkan loader, a driver (an ICD file), and,
# unless the driver is a software one, a device node. Where something is missing, root on Debian and Ubuntu gets Mesa's
# software driver from apt; everybody else is told what to install, and the script fails.
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

has_adapter() { has_loader && has_driver; }

if has_adapter; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "no Vulkan adapter: installing Mesa's software driver" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers
    if has_adapter; then exit 0; fi
fi

cat >&2 <<'HOW'
error: no Vulkan adapter, so the GPU path cannot be tested. Install your GPU's Vulkan driver, or the software one:
  Debian, Ubuntu   sudo apt-get install libvulkan1 mesa-vulkan-drivers
  Fedora           sudo dnf install vulkan-loader mesa-vulkan-drivers
  Arch             sudo pacman -S vulkan-icd-loader vulkan-swrast
HOW
exit 1

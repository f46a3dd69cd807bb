#!/usr/bin/env bash
# Makes src/export/onnx/proto.rs of scripts/onnx_proto/onnx.proto, with prost-build and protox: no protoc. Run
# it after onnx.proto was replaced by that of a newer ONNX; its licence, Apache-2.0, stands at its head.
set -euo pipefail
cd "$(dirname "$0")/.."
to=src/export/onnx/proto.rs
made=$(cargo run --quiet --locked --manifest-path scripts/onnx_proto/Cargo.toml)
{
    echo '// Made by scripts/onnx_proto.sh from onnx.proto of ONNX 1.23.2 (https://github.com/onnx/onnx), which is'
    echo '// Copyright (c) ONNX Project Contributors, SPDX-License-Identifier: Apache-2.0.'
    printf '%s\n' "$made"
} >"$to"
rustfmt --edition 2024 "$to"

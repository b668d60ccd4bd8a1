#!/usr/bin/env bash
# Runs one command with a Rust toolchain that builds for wasm32-unknown-unknown, and leaves the
# machine's own cargo and rustc as they are.
#
#   tools/wasm-toolchain.sh cargo check --target wasm32-unknown-unknown ...
#   tools/wasm-toolchain.sh                      # only prepares, and prints what it would set
#
# It takes the first of these that is present, and says which:
#   1. the active rustc, if the target was added to it;
#   2. on Debian: a private copy of Debian's rustc (package rustc-web, unpacked, not installed),
#      with std built once from rust-web-src, and Debian's clang if there is none on PATH;
#   3. otherwise it prints the line that a person may run, and exits with status 3.
# It never asks rustup to download anything.
#
# Environment:
#   WASM_TOOLCHAIN      auto (default) | rustup (only 1) | debian (only 2)
#   WASM_TOOLCHAIN_DIR  where the private copy lives (default: target/wasm-toolchain)
#   WASM_CC             a clang to try first
set -euo pipefail

target=wasm32-unknown-unknown
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=${WASM_TOOLCHAIN_DIR:-$root/target/wasm-toolchain}
private=$dir/debian
rust_min=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)

say() { printf 'wasm-toolchain: %s\n' "$*" >&2; }

unavailable() {
  say "$*"
  say "no std for $target; to add it to the active toolchain: rustup target add $target"
  exit 3
}

has_std() { # RUSTC
  local lib
  lib=$("$1" --print target-libdir --target "$target" 2>/dev/null) || return 1
  compgen -G "$lib/libstd-*.rlib" >/dev/null
}

at_least() { # VERSION MINIMUM
  [ "$(printf '%s\n%s\n' "$2" "${1%%[+~-]*}" | sort -V | head -n 1)" = "$2" ]
}

# Prints a clang that knows the target (Apple's does not).
find_clang() {
  local cc
  for cc in ${WASM_CC:-} clang clang-{24..16} /opt/homebrew/opt/llvm/bin/clang "$private/bin/clang"; do
    command -v "$cc" >/dev/null 2>&1 || continue
    if echo 'int x(void) { return 1; }' |
      "$cc" --target="$target" -c -x c -o /dev/null - 2>/dev/null; then
      command -v "$cc"
      return 0
    fi
  done
  return 1
}

debian_candidate() {
  apt-cache policy rust-web-src 2>/dev/null | awk '/Candidate:/ && $2 != "(none)" { print $2 }'
}

# Sets `version` to the Debian version to use.
debian_version() {
  version=$(cat "$private/.version" 2>/dev/null || true)
  if [ -n "$version" ] && at_least "$version" "$rust_min"; then return 0; fi
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || unavailable "not a Debian machine"
  version=$(debian_candidate)
  if [ -z "$version" ] || ! at_least "$version" "$rust_min"; then
    if [ "$(id -u)" != 0 ]; then
      unavailable "apt knows rust-web-src ${version:-not at all}, we need $rust_min; try: sudo apt-get update"
    fi
    say "apt knows rust-web-src ${version:-not at all}, we need $rust_min: running apt-get update"
    apt-get -qq update >&2 || true
    version=$(debian_candidate)
  fi
  if [ -z "$version" ] || ! at_least "$version" "$rust_min"; then
    unavailable "apt has rust-web-src ${version:-not at all}, we need $rust_min (bookworm-security has it)"
  fi
}

# Downloads and unpacks the compiler. Nothing is installed, and no root is needed.
debian_unpack() {
  local std llvm clang_packages=() deb host lld
  # Package names that carry a version change with it, so apt is asked for them.
  std=$(apt-cache depends "libstd-rust-web-dev=$version" | awk '/Depends: libstd-rust-web-[0-9]/ { print $2 }')
  llvm=$(apt-cache depends "$std" | awk '/Depends: libllvm[0-9]/ { print $2 }')
  if ! find_clang >/dev/null; then
    clang_packages=("clang-${llvm#libllvm}" "libclang-cpp${llvm#libllvm}" "libclang-common-${llvm#libllvm}-dev")
  fi
  say "fetching Debian's rustc $version into $private (150 MB; nothing is installed)"
  rm -rf "$private"
  mkdir -p "$private/debs" "$private/bin"
  (cd "$private/debs" && apt-get -qq download "rustc-web=$version" "rust-web-src=$version" \
    "libstd-rust-web-dev=$version" "$std=$version" "$llvm" "${clang_packages[@]}" 2>&1 |
    { grep -v unsandboxed >&2 || true; }) || unavailable "the download failed"
  for deb in "$private"/debs/*.deb; do
    case $deb in
      */rust-web-src_*)
        dpkg --fsys-tarfile "$deb" | tar -x -C "$private" --wildcards \
          './usr/src/rustc-*/library' './usr/lib/rustlib/src' ;;
      *) dpkg -x "$deb" "$private" ;;
    esac
  done
  rm -rf "$private/debs" "$private/usr/share"
  dpkg-architecture -qDEB_HOST_MULTIARCH >"$private/.multiarch" 2>/dev/null ||
    gcc -print-multiarch >"$private/.multiarch"
  wrapper rustc usr/bin/rustc
  wrapper rustdoc usr/bin/rustdoc
  [ ${#clang_packages[@]} = 0 ] || wrapper clang "usr/lib/llvm-${llvm#libllvm}/bin/clang"
  # The linker of the active toolchain serves; a distribution's does too.
  host=$("$private/bin/rustc" -vV | awk '/^host/ { print $2 }')
  lld=$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$host/bin/rust-lld
  [ -x "$lld" ] || lld=$(command -v wasm-ld || command -v "wasm-ld-${llvm#libllvm}") ||
    unavailable "no linker for wasm; try: apt-get install lld-${llvm#libllvm}"
  mkdir -p "$private/usr/lib/rustlib/$host/bin"
  ln -sf "$lld" "$private/usr/lib/rustlib/$host/bin/rust-lld"
}

wrapper() { # NAME PATH-IN-PRIVATE
  cat >"$private/bin/$1" <<W
#!/bin/sh
d=\$(dirname "\$(readlink -f "\$0")")/..
LD_LIBRARY_PATH="\$d/usr/lib/\$(cat "\$d/.multiarch")\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" exec "\$d/$2" "\$@"
W
  chmod +x "$private/bin/$1"
}

# Builds std once and puts it where the compiler looks, so that the project itself needs no
# unstable flag. Bitcode is embedded for later link-time optimisation.
debian_std() {
  local build=$private/build lib=$private/usr/lib/rustlib/$target/lib
  say "building std for $target (once, about two minutes)"
  rm -rf "$build"
  mkdir -p "$build/src" "$lib"
  printf '[package]\nname="sysroot-build"\nversion="0.0.0"\nedition="2021"\n[profile.release]\ndebug=0\n[workspace]\n' >"$build/Cargo.toml"
  echo '#![no_std]' >"$build/src/lib.rs"
  (cd "$build" && env -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER RUSTFLAGS=-Cembed-bitcode=yes \
    CARGO_TARGET_DIR="$build/target" RUSTC="$private/bin/rustc" RUSTC_BOOTSTRAP=1 \
    cargo build --quiet --release --target "$target" \
    -Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test -Zbuild-std-features=panic-unwind) >&2
  cp "$build/target/$target/release/deps/"lib*.rlib "$lib/"
  rm -rf "$lib"/libsysroot_build-* "$build"
}

use_debian() {
  debian_version
  mkdir -p "$dir"
  # Two builds at once: the second waits for the first.
  if command -v flock >/dev/null; then
    exec 9>"$dir/.lock"
    flock 9
  fi
  if [ "$(cat "$private/.version" 2>/dev/null)" != "$version" ]; then
    debian_unpack
    # ORDER: the version is written last, so that a broken unpacking is begun again.
    echo "$version" >"$private/.version"
  fi
  has_std "$private/bin/rustc" || debian_std
  exec 9>&-
  export RUSTC=$private/bin/rustc RUSTDOC=$private/bin/rustdoc
  # One target directory per compiler: mixing two builds of std fails with E0463.
  export CARGO_TARGET_DIR=$root/target/wasm-debian-${version%%[+~-]*}
}

case ${WASM_TOOLCHAIN:-auto} in
  rustup) has_std rustc || unavailable "the active toolchain lacks the target" ;;
  debian) use_debian ;;
  auto) has_std rustc || use_debian ;;
  *) say "WASM_TOOLCHAIN must be auto, rustup or debian"; exit 2 ;;
esac
if cc=$(find_clang); then
  export CC_wasm32_unknown_unknown=$cc
else
  unavailable "no clang that knows wasm32 (SQLite and zstd are C); try: apt-get install clang, or brew install llvm"
fi
say "rustc: $("${RUSTC:-rustc}" -V); clang: $cc"
if [ $# -gt 0 ]; then exec "$@"; fi
env | grep -E '^(RUSTC|RUSTDOC|CARGO_TARGET_DIR|CC_wasm32_unknown_unknown)=' || true

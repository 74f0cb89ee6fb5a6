# Sourced by cli/run, tests/run, bench/run and .ci/run: installs what a clean Debian 12 lacks, configures and builds.
# Progress goes to standard error, so that standard output stays the program's.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
jobs=${POSTBAG_JOBS:-$(nproc)}

packages_build=(g++ cmake ninja-build ccache libboost1.81-dev libssl-dev libsqlitecpp-dev
  libsqlite3-dev libtomlplusplus-dev libsimdjson-dev libcli11-dev libspdlog-dev libfmt-dev
  libxxhash-dev ca-certificates)
packages_tests=(libgtest-dev libgmock-dev libbenchmark-dev mold openssl python3)

say() { echo "postbag: $*" >&2; }

# The parts that are new are installed in one call; `apt-get update` only if there are any.
install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "no dpkg here; these have to be installed already: $*"
    return 0
  fi
  local installed missing=() name
  installed=" $(dpkg-query -W -f='${db:Status-Abbrev}${Package} ' "$@" 2>/dev/null || true)"
  for name in "$@"; do
    [[ $installed == *" ii $name "* ]] || missing+=("$name")
  done
  if ((${#missing[@]} == 0)); then return 0; fi
  local sudo=()
  if [[ $(id -u) != 0 ]]; then
    if ! command -v sudo >/dev/null; then
      say "missing packages; as root: apt-get install ${missing[*]}"
      return 1
    fi
    sudo=(sudo)
  fi
  say "installing ${missing[*]} (log: .build/install.log)"
  # Apt and dpkg say hundreds of lines; only those of a failure are of use.
  local log=$repo/.build/install.log
  local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  mkdir -p "${log%/*}"
  { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1 || {
    cat "$log" >&2
    return 1
  }
}

# build DIR CMAKE_OPTIONS... -- TARGETS...: configures once (ninja does it again when a CMakeLists.txt changes) and
# builds. A lock lets two terminals call the same script at once.
build() {
  local dir=$1 options=() targets=()
  shift
  while [[ $1 != -- ]]; do options+=("$1"); shift; done
  shift
  targets=("$@")
  mkdir -p "$dir"
  exec 9>"$dir/.lock"
  flock 9
  # A build tree that was copied or moved knows another source folder: start anew.
  if [[ -f $dir/CMakeCache.txt ]] &&
    ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$repo" "$dir/CMakeCache.txt"; then
    find "$dir" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
  fi
  if [[ ! -f $dir/build.ninja || $(cat "$dir/.options" 2>/dev/null) != "${options[*]}" ]]; then
    say "configuring ${dir#"$repo"/}"
    rm -f "$dir/.options"
    cmake -S "$repo" -B "$dir" -G Ninja "${options[@]}" </dev/null >"$dir/configure.log" 2>&1 9>&- || {
      cat "$dir/configure.log" >&2
      return 1
    }
    echo "${options[*]}" >"$dir/.options"
  fi
  # With nothing to do nothing is said. Ninja's progress is for people who watch; a log gets errors alone.
  if [[ $(ninja -C "$dir" -n "${targets[@]}" </dev/null 2>/dev/null 9>&- | tail -1) != *"no work to do"* ]]; then
    say "building ${targets[*]} in ${dir#"$repo"/} with $jobs jobs"
    local quiet=(--quiet)
    if [[ -t 2 ]]; then quiet=(); fi
    (cd "$dir" && exec ninja "${quiet[@]}" -j "$jobs" "${targets[@]}" </dev/null >&2 9>&-)
  fi
  exec 9>&-
}

# A quick linker for the many test executables, where there is one.
linker_options() {
  local name
  for name in mold lld; do
    if command -v "ld.$name" >/dev/null || command -v "$name" >/dev/null; then
      echo "-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=$name"
      return
    fi
  done
}

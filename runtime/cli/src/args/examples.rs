//! The examples at the foot of each help text.

pub(super) const TOP: &str = "\
Examples:
  airtight build . -t shop/api                    build ./airtight.toml
  airtight run shop/api                           no network, nothing writable but /tmp
  airtight run --connect db=10.0.0.5:5432 --publish 8080:8080 shop/api
  airtight plan shop/api                          what run would do
  airtight doctor                                 what this host gives";

pub(super) const BUILD: &str = "\
Examples:
  airtight build                                  ./airtight.toml, into the store
  airtight build examples/python-redis -t visits
  airtight build . -o oci:out/api:1.2 -o oci-archive:api.tar
  airtight build . --compression-format zstd      smaller, and several times as fast
  airtight build . --no-cache
  airtight build . --cache-from registry.example.org/shop/api:cache --cache-to registry.example.org/shop/api:cache
  airtight build . --locked                       nothing that airtight.lock does not pin
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) airtight build . --json";

pub(super) const UPDATE: &str = "\
Examples:
  airtight update && airtight build --locked
  airtight update examples/python-web-debian --json | jq -r '.[].name'
  airtight update . --mirror https://mirror.example.org/debian";

pub(super) const RUN: &str = "\
Examples:
  airtight run shop/api
  airtight run shop/api -- --verbose              other arguments, the image's entrypoint
  airtight run --entrypoint /bin/sh -t tools
  airtight run --connect redis=10.0.0.7:6379 --publish 8080:8080 visits
  airtight run --connect api.example.org:443 --public fetcher
  airtight run -m 256m --pids 64 --cpus 0.5 --timeout 30 batch
  airtight run --volume ./data:/data:ro --tmpfs /var/cache/app:32m shop/api
  airtight run --audit refused.json oci:out/api:1.2";

pub(super) const PLAN: &str = "\
Examples:
  airtight plan shop/api
  airtight plan --connect redis=10.0.0.7:6379 --publish 8080:8080 visits
  airtight plan --json shop/api | jq '.child[].step'";

pub(super) const IMAGES: &str = "\
Examples:
  airtight images
  airtight images --json | jq -r '.[].digest'";

pub(super) const INSPECT: &str = "\
Examples:
  airtight inspect shop/api
  airtight inspect --json oci:out/api:1.2 | jq .config.config.Entrypoint";

pub(super) const WHY: &str = "\
Examples:
  airtight why shop/api                           what is in it, by reason
  airtight why shop/api /usr/lib/x86_64-linux-gnu/libssl.so.3
  airtight why --json oci:out/api:1.2 /etc/passwd | jq -r '.chain[].says'";

pub(super) const DIFF: &str = "\
Examples:
  airtight diff shop/api:1.1 shop/api:1.2
  airtight diff --exit-code oci:old oci:new
  airtight diff --json shop/api:1.1 shop/api:1.2 | jq '.packages'";

pub(super) const LINT: &str = "\
Examples:
  airtight lint shop/api
  airtight lint --fail-on warning --ignore shell:/bin/sh tools
  airtight lint --sarif oci:out/api:1.2 > airtight.sarif
  airtight lint --rules";

pub(super) const INDEX: &str = "\
Examples:
  airtight index create shop/api:1.2 api:amd64 api:arm64";

pub(super) const INDEX_CREATE: &str = "\
Examples:
  airtight build -t api:amd64 . && airtight build -t api:arm64 --platform linux/arm64 .
  airtight index create shop/api:1.2 api:amd64 api:arm64 && airtight push shop/api:1.2 REGISTRY/shop/api:1.2
  airtight index create --annotation org.opencontainers.image.version=1.2 shop/api:1.2 oci:out/amd64 oci:out/arm64
  airtight index create --platform-annotation linux/arm64:com.example.tuned=yes -o oci:out/all shop/api:1.2 api:amd64 api:arm64";

pub(super) const RM: &str = "\
Examples:
  airtight rm shop/api:1.1
  airtight rm shop/api visits && airtight gc";

pub(super) const GC: &str = "\
Examples:
  airtight gc
  airtight gc --cache
  airtight gc --json";

pub(super) const IMPORT: &str = "\
Examples:
  skopeo copy docker://debian:12-slim oci:debian:12 && airtight import debian
  docker save -o api.tar shop/api && airtight import api.tar
  airtight import out/api --name shop/api:1.2";

pub(super) const EXPORT: &str = "\
Examples:
  airtight export shop/api oci:out/api:1.2
  airtight export shop/api:1.2 oci-archive:api.tar:1.2";

pub(super) const PUSH: &str = "\
Examples:
  airtight push registry.example.org/shop/api:1.2
  airtight push shop/api:1.2 registry.example.org/shop/api:1.2
  airtight push oci:out/api:1.2 localhost:5000/api:1.2 --json | jq .sent
  airtight push --cert-dir ./certs --authfile auth.json shop/api registry.internal:5000/shop/api";

pub(super) const PULL: &str = "\
Examples:
  airtight pull registry.example.org/shop/api:1.2
  airtight pull registry.example.org/base/debian@sha256:d5f1... --name debian:12
  airtight pull --platform linux/arm64 registry.example.org/shop/api:1.2 --name api:arm64";

pub(super) const COPY: &str = "\
Examples:
  airtight copy registry.example.org/ci/api:8f3a registry.example.org/shop/api:1.2
  airtight copy --all registry.example.org/shop/api:1.2 mirror.internal:5000/shop/api:1.2";

pub(super) const VERIFY: &str = "\
Examples:
  airtight verify
  airtight verify --store /srv/airtight --json";

pub(super) const PROFILE: &str = "\
Examples:
  airtight profile list
  airtight profile show service";

pub(super) const PROFILE_LIST: &str = "\
Examples:
  airtight profile list
  airtight profile list --json";

pub(super) const PROFILE_SHOW: &str = "\
Examples:
  airtight profile show jit
  airtight profile show ./app.profile.toml --json";

pub(super) const DOCTOR: &str = "\
Examples:
  airtight doctor
  airtight doctor --json | jq '.[] | select(.state != \"on\")'";

pub(super) const COMPLETIONS: &str = "\
Examples:
  airtight completions bash > /etc/bash_completion.d/airtight
  airtight completions zsh > ~/.zfunc/_airtight
  airtight completions fish > ~/.config/fish/completions/airtight.fish";

pub(super) const MAN: &str = "\
Examples:
  airtight man /usr/local/share/man/man1";

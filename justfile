# Common commands. `just` lists them.

[private]
default:
    @just --list --unsorted

# Build the release binary, target/release/precis
build:
    cargo build --release --locked

# Start the whole product; Ctrl-C stops it
run *ARGS:
    cargo run --release -- {{ ARGS }}

# Run unit, contract and end-to-end tests
test *ARGS:
    cargo test --workspace {{ ARGS }}

# Run end-to-end tests alone: real processes, servers and model
test-e2e *ARGS:
    cargo test --workspace --test e2e {{ ARGS }}

# Run everything that a change must pass
check:
    .ci/run

# Check lints without running tests
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Format the code
fmt:
    cargo fmt --all

# Build the API documentation of every crate
docs:
    cargo doc --workspace --no-deps

# Check that links in Markdown files resolve
links:
    cargo test --workspace --test links

# Rewrite generated files: schemas, configuration and metrics pages
generate:
    PRECIS_UPDATE=1 cargo test -p precis-schemas
    PRECIS_UPDATE=1 cargo test -p precis-runtime
    PRECIS_UPDATE=1 cargo test -p precis-api openapi
    PRECIS_UPDATE=1 cargo test -p precis --test metrics
    PRECIS_UPDATE=1 cargo test -p precis-worker params_reference
    deploy/check.sh --update

# Check the OpenAPI document against a running product
openapi URL="http://127.0.0.1:8000":
    tests/openapi/check.sh {{ URL }}

# Compare scores, sentence boundaries and analytics with independent computations
peers *ARGS:
    tests/peers/run.sh {{ ARGS }}

# Measure: engine, quality, api, monitor, state or faults
bench PART *ARGS:
    cargo run --release -- bench {{ PART }} {{ ARGS }}

# Break the product at random and check its promises: 200 runs, resumable in chunks
verify-faults *ARGS:
    cargo run --release -- bench faults --runs 200 --state target/faults.jsonl --json {{ ARGS }}

# Kill, restart and empty the servers of a NATS cluster under load: nothing may be lost or doubled
verify-cluster *ARGS:
    cargo run --release -- bench cluster --json {{ ARGS }}

# Fuzz the kernels for SECONDS per target (needs nightly and cargo-fuzz)
fuzz SECONDS="60":
    crates/engine/fuzz/run.sh {{ SECONDS }}

# Check the deployment files with every validator that installs here; builds and runs images as root
verify-deploy:
    deploy/check.sh

# Check the console: types, and every screen in Chromium (needs npm and Chromium)
verify-console:
    console/verify.sh

# Check licences, bans and sources of dependencies (needs cargo-deny)
deny:
    cargo deny check licenses bans sources

# Collect the changelog fragments into a release
changelog VERSION:
    changelog.d/collect.sh {{ VERSION }}

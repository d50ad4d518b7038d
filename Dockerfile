# The image of all processes and commands. "In a container" in docs/operations.md says how to build and run it.

FROM python:3.13-slim AS build

# for those who install from a mirror; the second one is uv's name for the first
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX

ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never

WORKDIR /build

# uv has an environment of its own, which does not get into the image
COPY requirements-uv.lock ./
RUN python -m venv /opt/uv \
    && /opt/uv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes \
        -r requirements-uv.lock

# as install/packages.sh does it; a layer that is built again when the lock changes
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/flowhook \
    && /opt/uv/bin/uv pip sync --quiet --no-cache --python /opt/flowhook/bin/python --require-hashes requirements.lock

COPY . ./
RUN /opt/uv/bin/uv pip install --quiet --no-cache --python /opt/flowhook/bin/python \
        --offline --no-deps --no-build-isolation .


FROM python:3.13-slim

# numbers, because Kubernetes can't tell whether a name is root
RUN groupadd --gid 10001 flowhook \
    && useradd --uid 10001 --gid flowhook --home-dir /data --no-create-home --shell /usr/sbin/nologin flowhook \
    && install --directory --mode 0700 --owner flowhook --group flowhook /data

COPY --from=build /opt/flowhook /opt/flowhook

ENV PATH=/opt/flowhook/bin:$PATH \
    FLOWHOOK_DATA_DIR=/data \
    FLOWHOOK_HOST=0.0.0.0

USER 10001:10001
VOLUME /data

# HTTP of senders, admin, gRPC
EXPOSE 8080 8081 50051

# for `flowhook up`; other processes are run with --no-healthcheck
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-I", "-c", "import http.client, os, sys; admin = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('FLOWHOOK_ADMIN_PORT') or 8081), timeout=4); admin.request('GET', '/readyz'); sys.exit(admin.getresponse().status != 200)"]

ENTRYPOINT ["flowhook"]
CMD ["up"]

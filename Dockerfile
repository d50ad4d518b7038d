# The image of all processes and commands; docs/deploying.md says how to build and run it.

# The digest is that of the records of Docker's official images (docker-library/repo-info, repos/python/remote).
# deploy/image-digests.sh checks it, and prints the one that the tag has now.
FROM python:3.13.15-slim@sha256:881d80734ee05dca6f7f42dcb080975652a53c7eda9ba1f03bb8da31aa6a6ec2 AS build

# for those who install from a mirror; the second one is uv's name for the first
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never

WORKDIR /build

# uv has an environment of its own, which does not get into the image
COPY requirements-uv.lock ./
RUN python -m venv /opt/uv \
    && /opt/uv/bin/python -m pip install --quiet --require-hashes -r requirements-uv.lock

# as install/packages.sh does it; a layer that is built again when the lock changes
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/flowhook \
    && /opt/uv/bin/uv pip sync --quiet --python /opt/flowhook/bin/python --require-hashes requirements.lock

COPY . ./
RUN FLOWHOOK_CLIENT_WITH_ANY_PROTOC=1 /opt/uv/bin/uv pip install --quiet --python /opt/flowhook/bin/python \
        --offline --no-deps --no-build-isolation . ./clients/python \
    && install -m 0644 deploy/healthcheck.py /opt/flowhook/healthcheck.py


FROM python:3.13.15-slim@sha256:881d80734ee05dca6f7f42dcb080975652a53c7eda9ba1f03bb8da31aa6a6ec2

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

# of `flowhook up`; deploy/healthcheck.py says how the other processes are asked
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD python -I /opt/flowhook/healthcheck.py http "${FLOWHOOK_ADMIN_PORT:-8081}" /readyz

ENTRYPOINT ["flowhook"]
CMD ["up"]

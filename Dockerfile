# One image for every process: the command says which one a container is, so the health checks are
# where the commands are, in docker-compose.yml. Run it with an init (`docker run --init`, or
# `init: true`), which passes signals on and reaps; the container's root may be read-only.

FROM python:3.11.16-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/capistream
WORKDIR /src
RUN uv venv "$VIRTUAL_ENV"

# The lock holds tests and tools as well. As constraints it decides versions and hashes, while
# pyproject.toml decides what is installed: one lock, and nothing in the image that is not needed.
COPY pyproject.toml requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --require-hashes --requirements pyproject.toml --constraints requirements.lock

# The build backend is the one thing that no lock covers.
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv \
    echo "setuptools==84.2.1" > /tmp/build-constraints.txt \
 && uv pip install --no-deps --build-constraints /tmp/build-constraints.txt .


FROM python:3.11.16-slim-bookworm
LABEL org.opencontainers.image.title="capistream" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin capistream \
 && install --directory --owner=capistream --group=capistream --mode=0700 /var/lib/capistream
COPY --from=build /opt/capistream /opt/capistream
ENV PATH=/opt/capistream/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CAPISTREAM_DATA_DIR=/var/lib/capistream
WORKDIR /var/lib/capistream
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["capistream"]

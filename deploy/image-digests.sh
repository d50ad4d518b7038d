#!/bin/sh
# Prints the digest that each image's tag has in the registry now, and checks the digests that the files name: whether the
# registry has them. Exit code 1: it lacks one. Needs docker with buildx, and a network.
# Usage: deploy/image-digests.sh

cd "$(dirname "$0")/.." || exit 2
failed=0

digest() {
    docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}'
}

images=$(grep -hoE '(python|nats):[0-9]+\.[A-Za-z0-9._-]*(@sha256:[0-9a-f]{64})?' \
    Dockerfile deploy/compose/nats.yaml deploy/kustomize/overlays/nats/nats.yaml | sort -u)
for image in $images; do
    tag=${image%@*}
    now=$(digest "$tag") || { echo "$tag: the registry does not answer"; failed=1; continue; }
    case $image in
        *@"$now") echo "$tag@$now: named by the files" ;;
        *@*)
            if digest "$image" >/dev/null; then
                echo "$tag@$now: the files name an earlier one, ${image#*@}"
            else
                echo "$tag: the registry does not have ${image#*@}, which the files name"
                failed=1
            fi
            ;;
        *) echo "$tag@$now: the files name no digest" ;;
    esac
done
exit $failed

#!/bin/sh
# Write the Helm chart, with the objects as kustomize builds them and the version of Flowhook, into a folder.
# Needs kustomize. `helm package FOLDER/flowhook` makes an archive of it.
# Usage: deploy/helm/package.sh FOLDER
set -eu
chart=$(mkdir -p "$1" && cd "$1" && pwd)/flowhook
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' flowhook/__init__.py)

mkdir -p "$chart/manifests" "$chart/monitoring"
cp -R deploy/helm/templates deploy/helm/values.yaml deploy/helm/values.schema.json LICENSE "$chart"
cp deploy/kustomize/components/monitoring/service-monitor.yaml deploy/prometheus/alerts.yaml "$chart/monitoring"
sed "s/0\.0\.0\$/$version/; /^#/d" deploy/helm/Chart.yaml >"$chart/Chart.yaml"
# the image's name is a value of the chart: the template looks for the one that stands in the files
image=$(sed -n 's/.*newName: \([^,}]*\), newTag: \([^,}]*\).*/\1:\2/p' deploy/kustomize/base/kustomization.yaml)
for storage in embedded=base nats=overlays/nats; do
    kustomize build "deploy/kustomize/${storage#*=}" | sed "s|image: $image\$|image: flowhook:$version|" \
        >"$chart/manifests/${storage%=*}.yaml"
done

#!/bin/sh
# Write the npm package, with the protos, types generated from them and the version of Flowhook, into a folder.
# Needs node and npm, and the packages of package-lock.json in clients/node/node_modules (npm ci).
# Usage: clients/node/build.sh FOLDER
set -eu
target=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")"
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' ../../flowhook/__init__.py)

cp index.js index.d.ts README.md ../../LICENSE "$target"
sed "s/\"version\": \"0.0.0\"/\"version\": \"$version\"/" package.json >"$target/package.json"
mkdir -p "$target/protos/flowhook"
cp -R ../../protos/flowhook/v1 "$target/protos/flowhook"
rm "$target/protos/flowhook/v1/runner_service.proto" "$target/protos/flowhook/v1/shard_service.proto" # of processes
services=$(cd "$target/protos" && ls flowhook/v1/*_service.proto)
sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
# shellcheck disable=SC2086 # names without spaces
node_modules/.bin/proto-loader-gen-types --keepCase --defaults --oneofs --enums=String --longs=String \
    --grpcLib=@grpc/grpc-js --importFileExtension=.js --includeDirs "$target/protos" --outDir "$sources" -- $services \
    >/dev/null
names=$(cd "$sources/flowhook/v1" && ls ./*Service.ts | sed 's|^\./\(.*\)\.ts$|\1|')
{
    for name in $names; do
        echo "import type { ${name}Client, ${name}Definition } from \"./flowhook/v1/$name.js\";"
    done
    echo "export interface Services {"
    for name in $names; do
        echo "  $name: { client: ${name}Client; definition: ${name}Definition };"
    done
    echo "}"
} >"$sources/services.ts"
ln -s "$PWD/node_modules" "$sources/node_modules"
node_modules/.bin/tsc --declaration --emitDeclarationOnly --skipLibCheck --module nodenext --target es2022 \
    --rootDir "$sources" --outDir "$target/types" "$sources/services.ts"

#!/usr/bin/env bash
# Builds the kube-proxy that Fairlead's rules are compared with, with Go, in a folder outside of the project: the module's own
# staging modules have no version in its go.mod and are named here.
#   bash test/kube-proxy/build.sh FOLDER [VERSION]        then FAIRLEAD_KUBE_PROXY=FOLDER/kube-proxy
set -euo pipefail
folder=${1:?a folder to build in is wanted}
version=${2:-1.36.3}
mkdir -p "$folder"
cd "$folder"
printf 'module peer\n\ngo 1.26.0\n' >go.mod
go mod download "k8s.io/kubernetes@v$version"
theirs=$(go env GOMODCACHE)/cache/download/k8s.io/kubernetes/@v/v$version.mod
{
  printf 'module peer\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$version"
  sed -nE "s#^[[:space:]]*(k8s.io/[a-z0-9-]+) => \./staging/.*#\t\1 => \1 v0.${version#1.}#p" "$theirs"
  printf ')\n'
} >go.mod
go get "k8s.io/kubernetes/cmd/kube-proxy@v$version"
go build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version" -o kube-proxy \
  k8s.io/kubernetes/cmd/kube-proxy
./kube-proxy --version

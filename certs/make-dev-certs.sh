#!/usr/bin/env bash
# Makes a throw-away authority and a certificate for localhost, for development only.
# Usage: make-dev-certs.sh FOLDER
# Writes ca.pem, tls.pem (the certificate) and tls.key into FOLDER, which must not be under git's eyes. The authority's
# key is thrown away, so that nobody can sign anything else with it.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
folder=$1
mkdir -p "$folder"
if git -C "$folder" rev-parse --is-inside-work-tree > /dev/null 2>&1; then
    for name in tls.key tls.pem ca.pem; do
        if ! git -C "$folder" check-ignore --quiet "$name"; then
            echo "$folder/$name would not be ignored by git: choose another folder, such as .cache/certs" >&2
            exit 1
        fi
    done
fi

scratch=$(mktemp -d)
finish() {
    status=$?
    [ "$status" -eq 0 ] || cat "$scratch/log" >&2
    rm -rf "$scratch"
}
trap finish EXIT
umask 077
: > "$scratch/log"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 \
    -subj "/CN=Opportune development authority" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
    -addext "keyUsage=critical,keyCertSign" \
    -keyout "$scratch/ca.key" -out "$scratch/ca.pem" 2>> "$scratch/log"

openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "/CN=localhost" \
    -keyout "$scratch/tls.key" -out "$scratch/tls.csr" 2>> "$scratch/log"

cat > "$scratch/leaf.cnf" << 'EOF'
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
EOF
openssl x509 -req -in "$scratch/tls.csr" -CA "$scratch/ca.pem" -CAkey "$scratch/ca.key" -CAcreateserial \
    -days 30 -sha256 -extfile "$scratch/leaf.cnf" -out "$scratch/tls.pem" 2>> "$scratch/log"

openssl verify -CAfile "$scratch/ca.pem" -purpose sslserver -verify_hostname localhost "$scratch/tls.pem" \
    > /dev/null 2>> "$scratch/log"
mv "$scratch/tls.key" "$scratch/tls.pem" "$scratch/ca.pem" "$folder/"
echo "wrote ca.pem, tls.pem and tls.key to $folder; they are valid for 30 days"

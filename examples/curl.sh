#!/bin/sh
# A walk through the API with curl. PORTMASTER_TOKEN: a token, where you are neither root nor in group portmaster.
set -eu
base=${PORTMASTER_API:-http://127.0.0.1:817}

# call METHOD [MESSAGE]: every method is a POST of a JSON object; errors are {"code": …, "message": …} with what is missing.
call() {
    method=$1
    message=${2:-"{}"}
    set -- curl --silent --show-error --fail-with-body --json "$message"
    [ -z "${PORTMASTER_TOKEN:-}" ] || set -- "$@" --header "Authorization: Bearer $PORTMASTER_TOKEN"
    "$@" "$base/portmaster.api.v1.$method"
    echo
}

echo "# Who am I, and what may I do?"
call System/WhoAmI

echo "# What runs, and is it well?"
call System/ListServices

echo "# Ten live connections to the internet, and of each only what I want to know"
call Connections/List '{
  "filter": {"direction": "DIRECTION_OUTGOING"},
  "pageSize": 10,
  "readMask": "id,process.executable,domain,remote,decision.verdict,decision.reason"
}'

echo "# What would happen if curl connected there?"
call Policy/Explain '{
  "executable": "/usr/bin/curl", "uid": 1000,
  "domain": "www.debian.org", "remote": {"address": "151.101.2.132", "port": 443}
}'

echo "# The same as a page of the web would: what only looks can be asked by GET, too"
curl --silent --show-error --fail-with-body --get --data-urlencode 'message={}' "$base/portmaster.api.v1.System/GetVersion"
echo

echo "# Streams are server-sent events; this one ends by itself after two seconds (SECONDS_TO_WATCH)"
curl --silent --no-buffer --max-time "${SECONDS_TO_WATCH:-2}" --json '{"includeLive": true}' \
    ${PORTMASTER_TOKEN:+--header "Authorization: Bearer $PORTMASTER_TOKEN"} \
    "$base/portmaster.api.v1.Connections/Watch" || [ $? = 28 ]

#!/usr/bin/env bash
# Run one lvm-lite command on every worker of a TPU slice: request it, install, run, and after a preemption again, until the command is done.
#   scripts/tpu_pod.sh --dry-run --name lvm --zone europe-west4-a --type v3-256 -- train finetune --profile paper --mesh data=8,fsdp=32
# --dry-run prints every command, in order and quoted, and runs none. nbs/guides/tpu_pod.ipynb explains it.
set -euo pipefail

name="" zone="" type="" project="" version=tpu-ubuntu2204-base spot="" mount="" dry="" keep="" poll=60 retries=3
usage() { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; cat >&2 <<'TEXT'
  --name NAME        of the slice and of its request
  --zone ZONE        such as europe-west4-a
  --type TYPE        such as v3-256, v4-128, v5litepod-64, v5p-128, v6e-64
  --project PROJECT  gcloud's own by default
  --version VERSION  of the machines' software (tpu-ubuntu2204-base)
  --spot             cheaper, and may be taken away
  --mount COMMAND    run on each worker before the work: makes lvm-lite/runs one folder for all of them
  --keep             leave the slice when the command is done; by default it is deleted
  --poll SECONDS     between two looks at the queue (60)
  --retries N        failures in a row, without a preemption, before giving up (3)
TEXT
exit 2; }
die() { echo "tpu_pod: $*" >&2; exit 2; }

while (($#)); do
  case $1 in
    --name|--zone|--type|--project|--version|--mount|--poll|--retries) (($# > 1)) || die "$1 wants a value"; printf -v "${1#--}" %s "$2"; shift 2 ;;
    --dry-run) dry=1; shift ;;
    --spot) spot=--spot; shift ;;
    --keep) keep=1; shift ;;
    --) shift; break ;;
    -h|--help) usage ;;
    *) die "unknown argument $1; --help lists them" ;;
  esac
done
for what in name zone type; do [[ -n ${!what} ]] || die "--$what is missing; --help lists what is wanted"; done
(($#)) || die "say after -- what lvm-lite is to do, such as: -- train finetune --profile paper"
[[ $poll =~ ^[0-9]+$ && $retries =~ ^[0-9]+$ ]] || die "--poll and --retries are whole numbers"

cd "$(dirname "$0")/.."
archive=${TMPDIR:-/tmp}/lvm-lite-$name.tar.gz
where=(--zone "$zone"); [[ -z $project ]] || where+=(--project "$project")
quoted() { # words as a shell reads them back, with no more quotes than they need
  local word out=
  for word; do
    case $word in
      ""|*[!A-Za-z0-9_./:=,@%+-]*) out+=" '${word//\'/\'\\\'\'}'" ;;
      *) out+=" $word" ;;
    esac
  done
  printf %s "${out# }"
}
do_it() { if [[ -n $dry ]]; then quoted "$@"; echo; else "$@"; fi; }
on_all() { do_it gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command "$1"; }

# Of the request: ACTIVE, WAITING_FOR_RESOURCES, PROVISIONING, SUSPENDED, FAILED, …; nothing where there is none.
# A gcloud that cannot say is asked again: no answer is no preemption.
state() {
  local said errors
  while :; do
    if said=$(gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>"$archive.errors"); then
      printf %s "$said"
      return
    fi
    errors=$(<"$archive.errors")
    [[ ${errors,,} != *not_found* && ${errors,,} != *"not found"* ]] || return 0
    echo "tpu_pod: the request's state is not known: ${errors##*$'\n'}" >&2
    sleep "$poll"
  done
}

request() {
  do_it gcloud compute tpus queued-resources create "$name" --node-id "$name" "${where[@]}" --accelerator-type "$type" \
    --runtime-version "$version" $spot
}
remove() { do_it gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet; }

ready() { # wait for a slice; ask again for one that was taken away. In a dry run: the first request.
  local refused=0
  if [[ -n $dry ]]; then request; return; fi
  while :; do
    case $(state) in
      ACTIVE) return ;;
      "") request || { refused=$((refused + 1)); ((refused < retries)) || die "the request was refused $refused times, as gcloud says above"; } ;;
      SUSPENDED|FAILED) if remove; then continue; fi ;;
    esac
    sleep "$poll"
  done
}

install='mkdir -p lvm-lite && tar xzf lvm-lite.tar.gz -C lvm-lite && cd lvm-lite && python3 -m pip install --quiet --user uv'
install+=' && python3 -m uv venv --quiet --allow-existing --python 3.11 .venv'
install+=' && VIRTUAL_ENV=$PWD/.venv python3 -m uv pip install --quiet -c constraints.txt -e ".[tpu]"'
setup() { # this commit, and the same environment, on every worker
  do_it git archive --format=tar.gz -o "$archive" HEAD &&
    do_it gcloud compute tpus tpu-vm scp "$archive" "$name:lvm-lite.tar.gz" "${where[@]}" --worker=all &&
    on_all "$install" && { [[ -z $mount ]] || on_all "$mount"; }
}

# The lock waits for a run that lost its connection and is about to find out.
command="cd lvm-lite && flock .lock .venv/bin/lvm-lite $(quoted "$@")"
failures=0
while :; do
  ready
  if setup && on_all "$command"; then done=1; else done=; fi
  [[ -z $dry ]] || break
  if [[ $(state) == ACTIVE ]]; then
    [[ -z $done ]] || break
    failures=$((failures + 1))
    if ((failures >= retries)); then
      echo "tpu_pod: failed $failures times in a row on a slice that was there; it is left as it is," \
        "look at it: gcloud compute tpus tpu-vm ssh $name $(quoted "${where[@]}")" >&2
      exit 1
    fi
    sleep "$poll"
  else # told to stop, a run saves and ends well: that is not the end of the work
    failures=0; echo "tpu_pod: the slice was taken away; asking for another, training goes on from its last checkpoint" >&2
  fi
done
[[ -n $keep ]] || remove

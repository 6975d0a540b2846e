# The front door. What needs more than a line is in scripts/.
.POSIX:
.SUFFIXES:
.PHONY: help up down demo check test live proof bench docs release uninstall

help:           ## what there is to make
	@awk -F ' *## ' '/^[a-z]+:.*##/ { sub(/:.*/, "", $$1); printf "make %-10s %s\n", $$1, $$2 }' Makefile

up:             ## install what is missing, build, link `cove`, start it in the background
	@sh scripts/up.sh

down:           ## stop Cove; nothing is lost, and where it does not run that is said
	@sh scripts/down.sh

demo:           ## the README's story on a real project, in three minutes, checked (needs root)
	@sh scripts/demo.sh

check:          ## what must pass before each commit: format, lints, unit tests
	@sh scripts/test.sh check

test:           ## everything that CI runs, from a fresh machine
	@sh scripts/test.sh all

live:           ## only the tests on loop devices (needs root)
	@sh scripts/test.sh live

proof:          ## every test at full length; goes on where it stopped, writes proof/report.json
	@sh scripts/test.sh proof

bench:          ## the release beside restic and the send pipeline; needs root, takes about an hour
	@sh scripts/bench.sh

docs:           ## the documentation of every crate
	@sh scripts/test.sh docs

release:        ## a release archive and its digest, in target/release-archives
	@sh scripts/release.sh

uninstall:      ## say what would be deleted; CONFIRM=yes deletes it, DISCARD=yes what is saved nowhere else, too
	@sh scripts/uninstall.sh

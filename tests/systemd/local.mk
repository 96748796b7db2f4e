# tests of systemd/
SYSTEMD_TESTS = tests/systemd/unit_is_clean.sh tests/systemd/conf_shows_every_default.sh
TESTS += $(SYSTEMD_TESTS)
EXTRA_DIST += $(SYSTEMD_TESTS)
# They look at what `make` made.
tests/systemd/unit_is_clean.log: systemd/weftd.service

# tests of systemd/

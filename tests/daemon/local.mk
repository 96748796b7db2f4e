# tests of daemon/

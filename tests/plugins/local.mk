# tests of plugins/

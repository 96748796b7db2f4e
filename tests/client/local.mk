# tests of client/

# daemon: its parts, for the top Makefile.am
include daemon/engine.mk

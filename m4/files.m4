dnl Files that configure fills in, beside the Makefile.
AC_CONFIG_FILES([client/weft.pc plugins/weft-plugin.pc])

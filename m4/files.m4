dnl Files that configure fills in, beside the Makefile.
AC_CONFIG_FILES([plugins/weft-plugin.pc])

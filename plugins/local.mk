# plugins: its parts, for the top Makefile.am
#
# One plugin = one file = one module that exports weft_plugin and needs nothing but libc and libm.
include_HEADERS += plugins/weft-plugin.h
pkgconfig_DATA += plugins/weft-plugin.pc
EXTRA_DIST += plugins/TUTORIAL.md

plugindir = $(pkglibdir)/plugins
plugin_flags = -module -avoid-version -shared -no-undefined -export-symbols-regex '^weft_plugin$$'
plugin_LTLIBRARIES =

plugin_LTLIBRARIES += plugins/sample.la
plugins_sample_la_SOURCES = plugins/sample.c plugins/declare.h
plugins_sample_la_LDFLAGS = $(plugin_flags)
plugins_sample_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/temperature.la
plugins_temperature_la_SOURCES = plugins/temperature.c plugins/declare.h plugins/sampler-util.h
plugins_temperature_la_LDFLAGS = $(plugin_flags)
plugins_temperature_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/top_k.la
plugins_top_k_la_SOURCES = plugins/top_k.c plugins/declare.h plugins/sampler-util.h
plugins_top_k_la_LDFLAGS = $(plugin_flags)
plugins_top_k_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/top_p.la
plugins_top_p_la_SOURCES = plugins/top_p.c plugins/declare.h plugins/sampler-util.h
plugins_top_p_la_LDFLAGS = $(plugin_flags)
plugins_top_p_la_LIBADD = -lm

# plugins: its parts, for the top Makefile.am
#
# One plugin = one file = one module that exports weft_plugin and needs nothing but libc and libm.
include_HEADERS += plugins/weft-plugin.h
pkgconfig_DATA += plugins/weft-plugin.pc
EXTRA_DIST += plugins/TUTORIAL.md

plugindir = $(pkglibdir)/plugins
plugin_flags = -module -avoid-version -shared -no-undefined -export-symbols-regex '^weft_plugin$$'
plugin_LTLIBRARIES =

# decoders
plugin_LTLIBRARIES += plugins/sample.la
plugins_sample_la_SOURCES = plugins/sample.c plugins/declare.h
plugins_sample_la_LDFLAGS = $(plugin_flags)
plugins_sample_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/score.la
plugins_score_la_SOURCES = plugins/score.c plugins/declare.h
plugins_score_la_LDFLAGS = $(plugin_flags)
plugins_score_la_LIBADD = -lm

# samplers, in the order of the default chain
plugin_LTLIBRARIES += plugins/bans.la
plugins_bans_la_SOURCES = plugins/bans.c plugins/declare.h plugins/sampler-util.h
plugins_bans_la_LDFLAGS = $(plugin_flags)
plugins_bans_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/logit_bias.la
plugins_logit_bias_la_SOURCES = plugins/logit_bias.c plugins/declare.h plugins/sampler-util.h
plugins_logit_bias_la_LDFLAGS = $(plugin_flags)
plugins_logit_bias_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/penalties.la
plugins_penalties_la_SOURCES = plugins/penalties.c plugins/declare.h plugins/sampler-util.h
plugins_penalties_la_LDFLAGS = $(plugin_flags)
plugins_penalties_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/dry.la
plugins_dry_la_SOURCES = plugins/dry.c plugins/declare.h plugins/sampler-util.h
plugins_dry_la_LDFLAGS = $(plugin_flags)
plugins_dry_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/temperature.la
plugins_temperature_la_SOURCES = plugins/temperature.c plugins/declare.h plugins/sampler-util.h
plugins_temperature_la_LDFLAGS = $(plugin_flags)
plugins_temperature_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/top_n_sigma.la
plugins_top_n_sigma_la_SOURCES = plugins/top_n_sigma.c plugins/declare.h plugins/sampler-util.h
plugins_top_n_sigma_la_LDFLAGS = $(plugin_flags)
plugins_top_n_sigma_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/top_k.la
plugins_top_k_la_SOURCES = plugins/top_k.c plugins/declare.h plugins/sampler-util.h
plugins_top_k_la_LDFLAGS = $(plugin_flags)
plugins_top_k_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/typical_p.la
plugins_typical_p_la_SOURCES = plugins/typical_p.c plugins/declare.h plugins/sampler-util.h
plugins_typical_p_la_LDFLAGS = $(plugin_flags)
plugins_typical_p_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/top_p.la
plugins_top_p_la_SOURCES = plugins/top_p.c plugins/declare.h plugins/sampler-util.h
plugins_top_p_la_LDFLAGS = $(plugin_flags)
plugins_top_p_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/min_p.la
plugins_min_p_la_SOURCES = plugins/min_p.c plugins/declare.h plugins/sampler-util.h
plugins_min_p_la_LDFLAGS = $(plugin_flags)
plugins_min_p_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/xtc.la
plugins_xtc_la_SOURCES = plugins/xtc.c plugins/declare.h plugins/sampler-util.h
plugins_xtc_la_LDFLAGS = $(plugin_flags)
plugins_xtc_la_LIBADD = -lm

plugin_LTLIBRARIES += plugins/mirostat.la
plugins_mirostat_la_SOURCES = plugins/mirostat.c plugins/declare.h plugins/sampler-util.h
plugins_mirostat_la_LDFLAGS = $(plugin_flags)
plugins_mirostat_la_LIBADD = -lm

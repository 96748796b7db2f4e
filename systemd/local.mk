# systemd: the service unit, its user, and the commented configuration.
sysusersdir = $(prefix)/lib/sysusers.d
weftconfdir = $(sysconfdir)/weft

dist_noinst_DATA = systemd/weftd.service.in systemd/weft.sysusers systemd/weftd.conf
nodist_systemdsystemunit_DATA = systemd/weftd.service
CLEANFILES += systemd/weftd.service

# Paths are known to make, not to configure (prefix may be given to make install), so the unit is made here.
systemd/weftd.service: systemd/weftd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && sed -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g' $(srcdir)/systemd/weftd.service.in > $@.tmp && mv $@.tmp $@

# An operator's weftd.conf is never overwritten.
install-data-local:
	$(MKDIR_P) $(DESTDIR)$(sysusersdir) $(DESTDIR)$(weftconfdir)
	$(INSTALL_DATA) $(srcdir)/systemd/weft.sysusers $(DESTDIR)$(sysusersdir)/weft.conf
	test -e $(DESTDIR)$(weftconfdir)/weftd.conf || $(INSTALL_DATA) $(srcdir)/systemd/weftd.conf $(DESTDIR)$(weftconfdir)/weftd.conf
uninstall-local:
	rm -f $(DESTDIR)$(sysusersdir)/weft.conf
	if cmp -s $(srcdir)/systemd/weftd.conf $(DESTDIR)$(weftconfdir)/weftd.conf; then rm -f $(DESTDIR)$(weftconfdir)/weftd.conf; fi
	-rmdir $(DESTDIR)$(weftconfdir) $(DESTDIR)$(pkglibdir)/plugins $(DESTDIR)$(pkglibdir) 2>/dev/null

#!/bin/sh
# weft(1) has every command, every option of every command and every exit code of the program, and no option that the program lacks.
page=$top_srcdir/client/weft.1
weft=$top_builddir/client/weft
bad=0

complain() {
	echo "weft.1: $*"
	bad=1
}

if [ "$MANDOC" != none ]; then
	lint=$("$MANDOC" -Tlint "$page" | grep -v "referenced manual not found")	# the others are not installed yet
	[ -z "$lint" ] || complain "$lint"
fi
commands=$("$weft" --help | sed -n '/^Commands$/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || complain "weft --help lists no commands"
known=
for command in $commands; do
	grep -q "^\.It Cm $command\( \|\$\)" "$page" || complain "the command $command is missing"
	options=$("$weft" "$command" --help | sed -n 's/^  --\([a-z-]*\) .*/\1/p')
	[ -n "$options" ] || complain "weft $command --help lists no options"
	known="$known $options"
	for option in $options; do
		grep -q "[ ]-$option\( \|\$\)" "$page" || complain "--$option ($command) is missing"
	done
done
for option in $(sed -n 's/^\.It Fl -\([a-z-]*\).*/\1/p' "$page"); do
	echo $known | grep -qw -- "$option" || complain "--$option is described, and no command has it"
done
# exit codes: the enum of cli.h
for code in $(sed -n 's/^	EXIT_[A-Z]* = \([0-9]*\).*/\1/p' "$top_srcdir/client/cli.h"); do
	sed -n '/^\.Sh EXIT STATUS/,/^\.Sh EXAMPLES/p' "$page" | grep -q "^\.It $code\$" || complain "exit code $code is missing"
done
exit $bad

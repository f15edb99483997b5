/*
 * The completion script for bash, from the option tables: what is the same for every command is written out
 * here, what differs is generated as assignments and case patterns.
 */
#include <string.h>

#include "cli/help.h"
#include "cpu/x86/cpuid.h"

/* Words that bash has split at '=' are looked at across it. Operands are counted past the options' values. */
static const char head[] =
	"_vireo_words()\n"
	"{\n"
	"\tcase $1 in\n"
	"\t@file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$2\") ;;\n"
	"\t@command) mapfile -t COMPREPLY < <(compgen -W \"${3//|/ }\" -- \"$2\") ;;\n"
	"\t@subcommand)\n"
	"\t\t_vireo_subcommands \"${COMP_WORDS[COMP_CWORD-1]}\"\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"${subcommands//|/ }\" -- \"$2\") ;;\n"
	"\t@machine) mapfile -t COMPREPLY < <(compgen -W \"$(\"${COMP_WORDS[0]}\" ps 2>/dev/null | awk 'NR > 1 { print "
	"$1 }')\""
	" -- \"$2\") ;;\n"
	"\t@network*)\n"
	"\t\twords=${1#@network}\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"${words//|/ } $(\"${COMP_WORDS[0]}\" net list 2>/dev/null | awk 'NR "
	"> "
	"1 { print $1 }')\" -- \"$2\") ;;\n"
	"\t@interface) mapfile -t COMPREPLY < <(compgen -W \"$(ls /sys/class/net 2>/dev/null)\" -- \"$2\") ;;\n"
	"\t@cpu)\n"
	"\t\tif [[ $2 == *,* ]]; then\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -P \"${2%,*},\" -W \"$features\" -- \"${2##*,}\")\n"
	"\t\telse\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -W \"help $models\" -- \"$2\")\n"
	"\t\tfi ;;\n"
	"\t*) mapfile -t COMPREPLY < <(compgen -W \"${1//|/ }\" -- \"$2\") ;;\n"
	"\tesac\n"
	"}\n\n"
	"_vireo()\n"
	"{\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words='' n=0 i\n"
	"\tlocal commands='' subcommands='' options='' valued='' operands=() first=2\n"
	"\tCOMPREPLY=()\n"
	"\tif [[ $cur == = ]]; then\n"
	"\t\tcur=''\n"
	"\telif [[ $prev == = ]]; then\n"
	"\t\tprev=${COMP_WORDS[COMP_CWORD-2]}\n"
	"\tfi\n";

static const char tail[] = "\tif ((COMP_CWORD == 1)); then\n"
			   "\t\t_vireo_words \"$commands|--help|--version\" \"$cur\"\n"
			   "\t\treturn\n"
			   "\tfi\n"
			   "\tif ((COMP_CWORD == 2)) && [[ -n $subcommands ]]; then\n"
			   "\t\t_vireo_words \"$subcommands|--help\" \"$cur\"\n"
			   "\t\treturn\n"
			   "\tfi\n"
			   "\t[[ -z $subcommands ]] || first=3\n"
			   "\tif [[ -n $words ]]; then\n"
			   "\t\t_vireo_words \"$words\" \"$cur\"\n"
			   "\t\treturn\n"
			   "\tfi\n"
			   "\t# The value of another option: bash's own completion.\n"
			   "\t[[ \" $valued \" != *\" $prev \"* ]] || return\n"
			   "\tif [[ $cur == -* ]]; then\n"
			   "\t\tmapfile -t COMPREPLY < <(compgen -W \"$options --help\" -- \"$cur\")\n"
			   "\t\treturn\n"
			   "\tfi\n"
			   "\tfor ((i = first; i < COMP_CWORD; i++)); do\n"
			   "\t\tif [[ ${COMP_WORDS[i]} != -* ]]; then\n"
			   "\t\t\t((n++))\n"
			   "\t\telif [[ ${COMP_WORDS[i+1]} == = ]]; then\n"
			   "\t\t\t((i += 2))\n"
			   "\t\telif [[ \" $valued \" == *\" ${COMP_WORDS[i]} \"* ]]; then\n"
			   "\t\t\t((i++))\n"
			   "\t\tfi\n"
			   "\tdone\n"
			   "\tif [[ -n ${operands[n]} ]]; then\n"
			   "\t\t_vireo_words \"${operands[n]}\" \"$cur\" \"$commands\"\n"
			   "\telif [[ -z $cur ]]; then\n"
			   "\t\tmapfile -t COMPREPLY < <(compgen -W \"$options\")\n"
			   "\tfi\n"
			   "}\n"
			   "complete -o bashdefault -o default -F _vireo vireo\n";

static void name(const struct cli_command *cmd, void *out)
{
	fprintf(out, "%s|", cli_last_word(cmd));
}

static bool has_subcommands(const struct cli_command *cmd)
{
	return cmd->subcommands || cmd->each_subcommand;
}

/* A case pattern with what is to be known of a command. */
static void command(const struct cli_command *cmd, void *opaque)
{
	FILE *out = opaque;

	fprintf(out, "\t\"%s\")\n\t\toptions='", cmd->name);
	for (const struct cli_option *o = cmd->options; !cli_option_end(o); o++) {
		fputs(o == cmd->options ? "" : " ", out);
		if (o->name)
			fprintf(out, "--%s", o->name);
		else
			fprintf(out, "-%c", o->letter);
	}
	fputs("'\n\t\tvalued='", out);
	for (const struct cli_option *o = cmd->options; !cli_option_end(o); o++) {
		if (o->metavar && o->letter)
			fprintf(out, "-%c ", o->letter);
		if (o->metavar && o->name)
			fprintf(out, "--%s ", o->name);
	}
	fputs("'\n\t\toperands=(", out);
	for (size_t i = 0; i < sizeof(cmd->operand_words) / sizeof(cmd->operand_words[0]); i++)
		if (cmd->operand_words[i])
			fprintf(out, "%s'%s'", i ? " " : "", cmd->operand_words[i]);
	fputs(")\n\t\tcase $prev in\n", out);
	for (const struct cli_option *o = cmd->options; !cli_option_end(o); o++) {
		if (!o->words)
			continue;
		fputs("\t\t", out);
		if (o->letter)
			fprintf(out, "-%c%s", o->letter, o->name ? " | " : "");
		if (o->name)
			fprintf(out, "--%s", o->name);
		fprintf(out, ") words='%s' ;;\n", o->words);
	}
	fputs("\t\tesac\n\t\t;;\n", out);
	cli_each_subcommand(cmd, command, out);
}

void cli_bash_completion(FILE *out)
{
	fputs("# bash completion for vireo, made from its option tables\n_vireo_subcommands()\n{\n\tcase $1 in\n", out);
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (!has_subcommands(*c))
			continue;
		fprintf(out, "\t%s) subcommands='", (*c)->name);
		cli_each_subcommand(*c, name, out);
		fputs("' ;;\n", out);
	}
	fputs("\tesac\n}\n\n", out);
	fputs(head, out);
	fputs("\tcommands='", out);
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		fprintf(out, "%s%s", c == cli_commands ? "" : "|", (*c)->name);
	fputs("'\n\tlocal models='", out);
	for (unsigned n = 0; x86_model_name(n); n++)
		fprintf(out, "%s%s", n ? " " : "", x86_model_name(n));
	fputs("' features='", out);
	for (unsigned n = 0; x86_feature_name(n); n++)
		fprintf(out, "%s+%s -%s", n ? " " : "", x86_feature_name(n), x86_feature_name(n));
	fputs("'\n\t_vireo_subcommands \"${COMP_WORDS[1]}\"\n"
	      "\tcase \"${COMP_WORDS[1]}${subcommands:+ ${COMP_WORDS[2]}}\" in\n",
	      out);
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		command(*c, out);
	fputs("\tesac\n", out);
	fputs(tail, out);
}

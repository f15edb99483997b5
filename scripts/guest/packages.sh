# Fetching packages with an apt of the build's own: its state is in $work/apt, its sources are the host's.
# shellcheck shell=bash disable=SC2154 # $work and others are the build's
suite=bookworm
# A recipe may name others.
arch=amd64 releases="(-updates|-security)?"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The host's sources of this suite, or those of its own suite with the name replaced: "URI RELEASE" lines.
host_sources() {
	# shellcheck disable=SC2016 # the format is apt's
	apt-get indextargets --format '$(CODENAME) $(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
		awk -v suite="$suite" -v releases="$releases" '
			$4 != "main" || ($5 != "" && $5 != "Debian") { next }
			$2 !~ /^(https?|file|copy|mirror)/ { next }
			$3 ~ "^" suite releases "$" { here[$2 " " $3]; next }
			$5 == "Debian" && $3 ~ /^[a-z]+(-updates|-security)?$/ { sub(/^[a-z]+/, suite, $3); other[$2 " " $3] }
			END {
				for (s in here) { print s; found = 1 }
				if (!found) for (s in other) print s
			}' | sort
}

# deb lines. VIREO_DEBIAN_MIRROR is for hosts that are not Debian.
sources() { # sources [OPTIONS]
	local list
	list=$(host_sources)
	[ -n "$list" ] || list=${VIREO_DEBIAN_MIRROR:+$VIREO_DEBIAN_MIRROR $suite}
	[ -n "$list" ] || return 1
	while read -r uri release; do echo "deb ${1:-}$uri $release main"; done <<<"$list"
}

# What an apt needs to reach the sources as the host's does.
host_settings() {
	apt-config dump | grep -E '^Acquire::(.*::Proxy.*|Check-Date|Check-Valid-Until|Retries|ForceIPv[46]) ' || true
}

write_apt_config() {
	local apt=$work/apt
	mkdir -p "$apt"/{etc/sources.list.d,etc/preferences.d,lists/partial,archives/partial}
	touch "$apt/status"
	sources "[arch=$arch signed-by=$keyring] " >"$apt/etc/sources.list"
	{
		host_settings
		cat <<-END
			Dir::Etc::Main "/dev/null";
			Dir::Etc::Parts "/dev/null";
			Dir::Etc::SourceList "$apt/etc/sources.list";
			Dir::Etc::SourceParts "$apt/etc/sources.list.d";
			Dir::Etc::Preferences "/dev/null";
			Dir::Etc::PreferencesParts "$apt/etc/preferences.d";
			Dir::State "$apt";
			Dir::State::Lists "$apt/lists";
			Dir::State::status "$apt/status";
			Dir::Cache "$apt";
			Dir::Cache::Archives "$apt/archives";
			Dir::Log "$apt";
			APT::Architecture "$arch";
			APT::Architectures "$arch";
			APT::Install-Recommends "false";
			APT::Sandbox::User "root";
			Acquire::Languages "none";
		END
	} >"$apt/apt.conf"
}

# apt-get of the build; its progress from FROM to TO percent.
own_apt() { # own_apt FROM TO ARGUMENT...
	local from=$1 to=$2
	shift 2
	APT_CONFIG=$work/apt/apt.conf apt-get -y -o APT::Status-Fd=7 "$@" 7> >(
		awk -F: -v from="$from" -v to="$to" '$1 == "dlstatus" { print int(from + $3 * (to - from) / 100); fflush() }' >&8
	)
}

# The lists of packages; always first.
fetch_lists() {
	write_apt_config
	own_apt 0 20 update
}

# Fetch packages without what they depend on; what is there already is kept.
fetch_only() { # fetch_only PACKAGE...
	(cd "$work/apt/archives" && own_apt 20 100 download "$@")
}

# Fetch packages, all they depend on, and what every system needs.
fetch_system() { # fetch_system PACKAGE...
	own_apt 20 100 --download-only install '?essential' '?priority(required)' "$@"
}

# The packages that METAPACKAGE stands for.
means() { # means METAPACKAGE
	APT_CONFIG=$work/apt/apt.conf apt-cache depends --important "$1" | awk '$1 == "Depends:" { print $2 }'
}

# Unpack fetched packages to a directory.
unpack() { # unpack DIRECTORY
	local deb n=0 total
	total=$(find "$work/apt/archives" -name '*.deb' | wc -l)
	rm -rf --one-file-system "$1"
	mkdir -p "$1"
	for deb in "$work"/apt/archives/*.deb; do
		dpkg-deb -x "$deb" "$1"
		n=$((n + 1))
		percent $((100 * n / total))
	done
}

# A whole system in a directory, from what fetch_system has fetched.
install_system() { # install_system DIRECTORY PACKAGES MMDEBSTRAP-OPTION...
	local root=$1 packages=$2 total n=0 line deb_lines=()
	shift 2
	total=$(find "$work/apt/archives" -name '*.deb' | wc -l)
	mapfile -t deb_lines < <(sources)
	host_settings >"$work/aptopt"
	rm -rf --one-file-system "$root"
	mmdebstrap --mode=root --verbose --variant=minbase --format=directory --include="$packages" \
		--skip=update,download/empty,essential/unlink --aptopt="$work/aptopt" \
		--setup-hook="mkdir -p \"\$1/var/cache/apt/archives\" \"\$1/var/lib/apt/lists\"" \
		--setup-hook="cp '$work'/apt/archives/*.deb \"\$1/var/cache/apt/archives/\"" \
		--setup-hook="cp '$work'/apt/lists/*_* \"\$1/var/lib/apt/lists/\"" \
		"$@" "$suite" "$root" "${deb_lines[@]}" 2>&1 |
		while read -r line; do
			echo "$line"
			case $line in
			"Setting up "*)
				n=$((n + 1))
				[ $n -gt "$total" ] || percent $((100 * n / total))
				;;
			esac
		done
}

check_sources() {
	[ -e "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"
	sources >/dev/null ||
		die "this host's apt has no sources of Debian's main: set VIREO_DEBIAN_MIRROR to the address of a mirror"
}

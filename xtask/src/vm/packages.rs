//! Reading what apt says of kernel packages.

/// The packages of an `apt-cache search` listing, newest first; of two that differ in the signature alone the signed one first.
pub(super) fn newest_first(listing: &str) -> Vec<String> {
    let names = listing.lines().filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<&str> = names.filter(|name| is_plain(name)).collect();
    names.sort_by_key(|name| (numbers(name), !name.ends_with("-unsigned")));
    names.into_iter().rev().map(str::to_owned).collect()
}

/// A kernel for any x86_64 machine: neither the one for clouds, which lacks drivers that the guests use, nor the real-time one,
/// nor a package of debug symbols, headers or none at all but a dependency.
fn is_plain(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("linux-image-") else {
        return false;
    };
    let rest = rest.strip_suffix("-unsigned").unwrap_or(rest);
    let Some(version) = rest.strip_suffix("-amd64") else {
        return false;
    };
    // `6.12-amd64` is the dependency that follows the line.
    let release = version.split(['-', '+']).next().unwrap_or_default();
    release.split('.').count() == 3 && !version.contains("cloud") && !version.contains("rt")
}

/// The numbers in a package's name, to compare by.
fn numbers(name: &str) -> Vec<u64> {
    let version = name.strip_prefix("linux-image-").unwrap_or(name);
    let version = version.split("-amd64").next().unwrap_or(version);
    let parts = version.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian 12's apt prints it.
    const LISTING: &str = "\
linux-image-6.1.0-9-amd64 - Linux 6.1 for 64-bit PCs (signed)
linux-image-6.1.0-55-amd64-unsigned - Linux 6.1 for 64-bit PCs
linux-image-6.1.0-56-amd64-unsigned - Linux 6.1 for 64-bit PCs
linux-image-6.1.0-56-cloud-amd64-unsigned - Linux 6.1 for x86-64 cloud
linux-image-6.1.0-56-rt-amd64-unsigned - Linux 6.1 for 64-bit PCs, PREEMPT_RT
linux-image-6.1.0-56-amd64 - Linux 6.1 for 64-bit PCs (signed)
linux-image-6.1.0-57-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-56-amd64-dbg - Debug symbols for linux-image-6.1.0-56-amd64
linux-headers-6.1.0-58-amd64 - Header files for Linux 6.1.0-58-amd64
linux-image-amd64 - Linux for 64-bit PCs (meta-package)
";

    #[test]
    fn the_newest_signed_plain_kernel_comes_first() {
        assert_eq!(
            newest_first(LISTING),
            [
                "linux-image-6.1.0-56-amd64",
                "linux-image-6.1.0-56-amd64-unsigned",
                "linux-image-6.1.0-55-amd64-unsigned",
                "linux-image-6.1.0-9-amd64",
            ]
        );
    }

    #[test]
    fn releases_compare_as_numbers_wherever_they_come_from() {
        let listing = "\
linux-image-6.12-amd64 - Linux for 64-bit PCs (meta-package)
linux-image-6.12.9+bpo-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.117+deb12-amd64-unsigned - Linux 6.12 for 64-bit PCs
linux-image-6.12.22+bpo-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.117+deb12-rt-amd64-unsigned - Linux 6.12 for 64-bit PCs, PREEMPT_RT
";
        assert_eq!(
            newest_first(listing),
            [
                "linux-image-6.12.117+deb12-amd64-unsigned",
                "linux-image-6.12.22+bpo-amd64",
                "linux-image-6.12.9+bpo-amd64",
            ]
        );
    }

    #[test]
    fn nothing_listed_is_nothing_found() {
        assert!(newest_first("").is_empty());
        assert!(newest_first("E: Unable to locate package\n\n").is_empty());
    }
}

//! Device rules, one after the other, as the one set that both controllers are given.
//!
//! v1 keeps a default and a list of exceptions; a list of rules means what that list looks like after the last of them. v2 has a program, made from the same list.

use serde::{Deserialize, Serialize};

use super::Setting;
use crate::bundle::{DeviceKind, DeviceRule};
use crate::control::{Refusal, Result};

/// What may be opened: a default, and what is treated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSet {
    /// Everything that no exception names may be used.
    pub allow: bool,
    pub exceptions: Vec<(DeviceMatch, DevicePermissions)>,
}

/// Which devices. `None` is any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceMatch {
    pub block: bool,
    pub major: Option<u32>,
    pub minor: Option<u32>,
}

/// What of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePermissions {
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

impl DevicePermissions {
    fn of(rule: &DeviceRule) -> Self {
        Self {
            read: rule.read,
            write: rule.write,
            mknod: rule.mknod,
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            write: self.write || other.write,
            mknod: self.mknod || other.mknod,
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            read: self.read && !other.read,
            write: self.write && !other.write,
            mknod: self.mknod && !other.mknod,
        }
    }

    fn none(self) -> bool {
        self == Self::default()
    }

    fn text(self) -> String {
        [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')]
            .into_iter()
            .filter_map(|(on, letter)| on.then_some(letter))
            .collect()
    }
}

impl DeviceSet {
    /// # Errors
    /// A rule that takes from a wider one what v1 cannot take from it: the kernel would go on allowing it, or denying it.
    pub fn of<'a>(rules: impl Iterator<Item = &'a DeviceRule>) -> Result<Self> {
        let mut allow = false;
        // In the order in which rules name them: the kernel's list keeps it, and so do those who read that list.
        let mut exceptions: Vec<(DeviceMatch, DevicePermissions)> = Vec::new();
        for rule in rules {
            let block = match rule.kind {
                // Of every kind is of every number and in every way, whatever else it says: it starts anew.
                DeviceKind::Any => {
                    allow = rule.allow;
                    exceptions.clear();
                    continue;
                }
                DeviceKind::Character => false,
                DeviceKind::Block => true,
            };
            let devices = DeviceMatch {
                block,
                major: rule.major,
                minor: rule.minor,
            };
            let permissions = DevicePermissions::of(rule);
            if rule.allow == allow {
                remove(&mut exceptions, devices, permissions)?;
            } else {
                match exceptions.iter_mut().find(|(named, _)| *named == devices) {
                    Some((_, old)) => *old = old.with(permissions),
                    None => exceptions.push((devices, permissions)),
                }
            }
        }
        exceptions.retain(|(_, permissions)| !permissions.none());
        Ok(Self { allow, exceptions })
    }

    /// For `devices.allow` and `devices.deny`: the default first, which empties the kernel's list.
    pub(super) fn v1(&self) -> Vec<Setting> {
        let file = |allow| {
            if allow {
                "devices.allow"
            } else {
                "devices.deny"
            }
        };
        let mut settings = vec![Setting::new(file(self.allow), "a")];
        for (devices, permissions) in &self.exceptions {
            let value = format!("{} {}", devices.text(), permissions.text());
            settings.push(Setting::new(file(!self.allow), value));
        }
        settings
    }
}

impl DeviceMatch {
    /// Itself is a part of none.
    fn part_of(self, wider: Self) -> bool {
        let covers = |wide: Option<u32>, narrow| wide.is_none() || wide == narrow;
        self != wider
            && self.block == wider.block
            && covers(wider.major, self.major)
            && covers(wider.minor, self.minor)
    }

    fn text(self) -> String {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |it| it.to_string());
        let kind = if self.block { 'b' } else { 'c' };
        format!("{kind} {}:{}", number(self.major), number(self.minor))
    }
}

fn remove(
    exceptions: &mut [(DeviceMatch, DevicePermissions)],
    devices: DeviceMatch,
    permissions: DevicePermissions,
) -> Result<()> {
    let wider = exceptions
        .iter()
        .find(|(wider, theirs)| devices.part_of(*wider) && theirs.without(permissions) != *theirs);
    if let Some((wider, theirs)) = wider {
        return Err(Refusal::new(
            "linux.resources.devices",
            format!(
                "requested rule [{} {}] not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule [{} {}])",
                devices.text(),
                permissions.text(),
                wider.text(),
                theirs.text()
            ),
            "name the devices one by one instead of the wide rule",
        ));
    }
    if let Some((_, old)) = exceptions.iter_mut().find(|(named, _)| *named == devices) {
        *old = old.without(permissions);
    }
    Ok(())
}

/// What every container may do, whatever its rules say: make nodes, and use the devices that the specification promises it.
#[must_use]
pub fn default_device_rules() -> Vec<DeviceRule> {
    let rule = |kind, major, minor, all| DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        read: all,
        write: all,
        mknod: true,
    };
    let character = |major, minor| rule(DeviceKind::Character, Some(major), minor, true);
    let mut rules = vec![
        // A node gives nothing by itself: opening it is another rule's matter.
        rule(DeviceKind::Character, None, None, false),
        rule(DeviceKind::Block, None, None, false),
    ];
    // null, zero, full, random, urandom; tty and ptmx; net/tun, which VPNs in containers rely on.
    rules.extend(
        [
            (1, 3),
            (1, 5),
            (1, 7),
            (1, 8),
            (1, 9),
            (5, 0),
            (5, 2),
            (10, 200),
        ]
        .map(|(major, minor)| character(major, Some(minor))),
    );
    // Terminals of devpts.
    rules.push(character(136, None));
    rules
}

#[cfg(test)]
pub(super) use tests::rules as parse_rules;

#[cfg(test)]
mod tests {
    use super::*;

    /// `+c 1:3 rwm`, `-a`, as in `devices.list`.
    pub(crate) fn rules(text: &str) -> Vec<DeviceRule> {
        text.split(',').map(rule).collect()
    }

    fn rule(text: &str) -> DeviceRule {
        let mut words = text.trim().split(' ');
        let head = words.next().unwrap();
        let number = |text: &str| (text != "*").then(|| text.parse().unwrap());
        let (major, minor) = words.next().unwrap_or("*:*").split_once(':').unwrap();
        let access = words.next().unwrap_or("rwm");
        DeviceRule {
            allow: head.starts_with('+'),
            kind: match &head[1..] {
                "a" => DeviceKind::Any,
                "c" => DeviceKind::Character,
                "b" => DeviceKind::Block,
                other => panic!("{other}"),
            },
            major: number(major),
            minor: number(minor),
            read: access.contains('r'),
            write: access.contains('w'),
            mknod: access.contains('m'),
        }
    }

    fn written(text: &str) -> std::result::Result<String, String> {
        DeviceSet::of(rules(text).iter())
            .map(|set| {
                let lines: Vec<String> = set
                    .v1()
                    .iter()
                    .map(|setting| {
                        format!("{} {}", &setting.file["devices.".len()..], setting.value)
                    })
                    .collect();
                lines.join(", ")
            })
            .map_err(|refusal| refusal.problem)
    }

    #[test]
    fn rules_come_to_a_default_and_its_exceptions() {
        for (asked, want) in [
            ("-a", "deny a"),
            ("+c 1:3 rw", "deny a, allow c 1:3 rw"),
            ("-a, +c 1:3 r, +c 1:3 w", "deny a, allow c 1:3 rw"),
            ("-a, +c 1:3 rwm, -c 1:3 m", "deny a, allow c 1:3 rw"),
            ("-a, +c 1:3 rwm, -c 1:3 rwm", "deny a"),
            ("-a, -b 8:0 rwm, +b 8:* r", "deny a, allow b 8:* r"),
            ("+a", "allow a"),
            ("+a, -c 1:3 rwm", "allow a, deny c 1:3 rwm"),
            ("+a, -c 1:3 rwm, +c 1:3 r", "allow a, deny c 1:3 wm"),
            (
                "-a, +c 10:229 rwm, +b 8:20 rw, +c 1:3 r, +c 10:229 r",
                "deny a, allow c 10:229 rwm, allow b 8:20 rw, allow c 1:3 r",
            ),
            ("+c 1:3 rwm, -a", "deny a"),
            ("-a, +c *:* m, -c 1:3 rw", "deny a, allow c *:* m"),
            ("-a, +b *:* m, -c 1:3 m", "deny a, allow b *:* m"),
            ("-a, +c *:* rwm, -c *:* rwm", "deny a"),
        ] {
            assert_eq!(written(asked).as_deref(), Ok(want), "{asked}");
        }
    }

    #[test]
    fn a_hole_in_a_wide_rule_is_refused() {
        for asked in [
            "-a, +c 1:* rwm, -c 1:3 r",
            "-a, +c *:* m, -c 1:* m",
            "+a, -c *:3 w, +c 1:3 w",
        ] {
            let problem = written(asked).unwrap_err();
            assert!(
                problem.contains("cannot punch hole in existing wildcard rule"),
                "{asked}: {problem}"
            );
        }
    }

    #[test]
    fn what_every_container_has_is_no_hole_in_what_callers_deny() {
        let asked = rules("-a");
        let set = DeviceSet::of(asked.iter().chain(&default_device_rules())).unwrap();
        assert!(!set.allow);
        assert_eq!(set.exceptions.len(), 11);
        // A privileged container: everything, and the defaults change nothing.
        let set = DeviceSet::of(rules("+a").iter().chain(&default_device_rules())).unwrap();
        assert_eq!(
            set,
            DeviceSet {
                allow: true,
                exceptions: vec![]
            }
        );
    }
}

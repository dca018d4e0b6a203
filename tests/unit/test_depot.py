"""Lock files of snapshots."""

import depot
import pytest
from ansible.errors import AnsibleFilterError

SUM = "0123456789abcdef" * 4
TOLD = f"""'http://a.test/pool/b/bind9_1%3a9.20-1%7edeb13u1_amd64.deb' bind9_1%3a9.20-1~deb13u1_amd64.deb 12 SHA256:{SUM}
'http://a.test/pool/t/tzdata_2026a_all.deb' tzdata_2026a_all.deb 12 SHA256:{SUM}
"""


def test_a_lock_file_names_each_package_once():
    expected = f"{SUM}  bind9_1%3a9.20-1~deb13u1_amd64.deb\n{SUM}  tzdata_2026a_all.deb\n"
    assert depot.depot_lock([TOLD, "Reading package lists...\n", TOLD]) == expected


def test_what_is_locked_is_asked_for_by_version():
    locked = depot.depot_locked(depot.depot_lock([TOLD]), "x.txt")
    assert [entry["wanted"] for entry in locked] == ["bind9:amd64=1:9.20-1~deb13u1", "tzdata:all=2026a"]
    assert locked[1]["file"] == "tzdata_2026a_all.deb"


@pytest.mark.parametrize(
    "line", ["", "tree", f"{SUM} tree_1_all.deb", f"{SUM}  ../tree_1_all.deb", f"{SUM[1:]}  tree_1_all.deb", f"{SUM}  tree_1.deb"]
)
def test_any_other_line_is_refused(line):
    with pytest.raises(AnsibleFilterError, match=r"line 3 of the lock file .* Allowed: a SHA-256.* Edit: x.txt"):
        depot.depot_locked(depot.depot_lock([TOLD]) + line + "\n", "x.txt")


def test_what_apt_did_not_sign_with_sha256_is_an_error():
    with pytest.raises(AnsibleFilterError, match="named no package"):
        depot.depot_lock([TOLD.replace("SHA256", "MD5Sum")])

"""What the kernel says of file systems."""

from ansible_collections.lsst.ldf.plugins.modules import kernel_filesystem


def test_names_are_read_whether_they_need_a_device_or_not():
    assert kernel_filesystem.known("nodev\tproc\n\text4\nnodev\tnfs4\n\n") == {"proc", "ext4", "nfs4"}

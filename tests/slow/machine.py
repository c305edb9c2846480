# SPDX-License-Identifier: Apache-2.0
"""A machine to install hob on: this one's files under an overlay that forgets, with the real systemd as process 1 and a network
that is only lo. It takes root, and a kernel that allows namespaces, overlays and cgroups; elsewhere what needs one is skipped."""
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

BOOT_LIMIT_S = 120
SYSTEMD = Path("/lib/systemd/systemd")
# In a mount namespace of its own, $1 the new root. What a container's manager provides to systemd (systemd.io/CONTAINER_INTERFACE).
BOOT = r"""
set -e
mount --make-rprivate /
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
for d in run tmp dev; do mount -t tmpfs tmpfs $d; done
for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
pivot_root . mnt
umount -l /mnt
exec env -i container=hob-test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$2" --log-target=journal --show-status=no
"""


class CannotBoot(Exception):
    pass


class Machine:
    def __init__(self, folder):
        self.folder, self.root, self.log = folder, folder / "root", folder / "systemd.log"
        self.process = self.pid = None

    def __enter__(self):
        try:
            self.boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def boot(self):
        if os.geteuid() != 0 or not SYSTEMD.exists():
            raise CannotBoot("not root, or no systemd")
        layers = self.folder / "layers"
        layers.mkdir()
        self.root.mkdir()
        overlay = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
        for command in (["mount", "-t", "tmpfs", "tmpfs", layers], ["mkdir", layers / "upper", layers / "work"],
                        ["mount", "-t", "overlay", "overlay", "-o", overlay, self.root]):
            done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
            if done.returncode:
                raise CannotBoot(done.stderr.strip())
        units = self.root / "etc/systemd/system"
        for wanted in units.glob("*.wants/*"):  # nothing of this machine's runs there
            wanted.unlink()
        (units / "default.target").unlink(missing_ok=True)
        (units / "default.target").symlink_to("/lib/systemd/system/basic.target")
        (self.root / "etc/fstab").unlink(missing_ok=True)
        (self.root / "etc/machine-id").write_text("")
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                ["unshare", "--pid", "--mount", "--cgroup", "--ipc", "--uts", "--net", "--fork", "--kill-child",
                 "sh", "-c", BOOT, "sh", str(self.root), str(SYSTEMD)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        end = time.monotonic() + BOOT_LIMIT_S
        while time.monotonic() < end and self.process.poll() is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children:
                self.pid = int(children[0])
                if self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise CannotBoot(self.log.read_text(errors="replace")[-2000:])

    def run(self, *args, check=True, input=None, env=None, timeout=120):
        """A command in there, with what it says as text."""
        command = ["nsenter", "--target", str(self.pid), "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                   *(f"{k}={v}" for k, v in (env or {}).items()), *map(str, args)]
        done = subprocess.run(command, input=input or "", capture_output=True, text=True, timeout=timeout)
        assert not check or done.returncode == 0, f"{shlex.join(map(str, args))}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def write(self, path, text):
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def stop(self):
        if self.process:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)  # and with it all of its namespace
            self.process.kill()
            self.process.wait()
        for path in (self.root, self.folder / "layers"):
            if os.path.ismount(path):
                subprocess.run(["umount", "-l", str(path)], check=False)

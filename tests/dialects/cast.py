"""Everybody of the matrix: two tenants, three roles, and the keys that their users have made.

``acme`` has an admin, an editor, another editor and a viewer; ``globex`` an admin, an editor and a
viewer. Each dialect gets a cast of its own, since writes are counted by caller.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.dialects.client import COOKIE, Caller
from tests.dialects.harness import ACME, GLOBEX, World

Made = dict[str, str]


class Cast:
    """The callers by their names in the matrix, and keys for them to meddle with."""

    def __init__(self, world: World) -> None:
        self._world = world
        editor = world.user("editor")
        globex_editor = world.user("editor", GLOBEX)
        own = world.key_caller
        self.callers = {
            "nobody": Caller(world.port),
            "unknown": own("gw_live_" + "0" * 50),
            "admin": world.user("admin"),
            "editor": editor,
            "other": world.user("editor"),
            "viewer": world.user("viewer"),
            "editor's editor key": own(world.qwilt_key(editor, permission="editor")["apiToken"]),
            "editor's viewer key": own(world.secret_key(editor, permission="viewer")["secretKey"]),
            "key acting as editor": own(world.qlik_key(editor)["token"]),
            "revoked key": own(self._revoked(editor)),
            "editor's cookie": Caller(world.port, fields=(("Cookie", f"{COOKIE}={editor.token}"),)),
            "globex admin": world.user("admin", GLOBEX),
            "globex editor": globex_editor,
            "globex viewer": world.user("viewer", GLOBEX),
            "globex editor's key": own(
                world.qwilt_key(globex_editor, permission="editor")["apiToken"], GLOBEX
            ),
        }
        self._makers: dict[str, Callable[[], Made]] = {
            "editor's": lambda: self._by_qwilt("editor"),
            "acting as editor": lambda: self._by_qlik("editor"),
            "other's": lambda: self._by_secret("other"),
            "operator's": lambda: self._named(world.cli_key("viewer")),
            "globex": lambda: self._by_secret("globex editor"),
            "absent": self._absent,
        }
        self._standing = {whose: make() for whose, make in self._makers.items()}

    def key(self, whose: str, *, fresh: bool) -> Made:
        """Return the names of a key: one that stands for all who may not touch it, or one to be ended."""
        return self._makers[whose]() if fresh else self._standing[whose]

    def _revoked(self, editor: Caller) -> str:
        made = self._world.qwilt_key(editor, permission="editor")
        editor.delete(f"/api/1/api-keys/{made['keyId']}").expect(200)
        return str(made["apiToken"])

    def _by_qwilt(self, who: str) -> Made:
        made = self._world.qwilt_key(self.callers[who])
        return self._named(self._world.key_of_number(made["keyId"]))

    def _by_qlik(self, who: str) -> Made:
        return self._shown(self._world.qlik_key(self.callers[who])["id"])

    def _by_secret(self, who: str) -> Made:
        return self._shown(self._world.secret_key(self.callers[who])["id"])

    def _shown(self, key_id: str) -> Made:
        return self._named(self._world.cli_show(key_id))

    @staticmethod
    def _named(key: dict[str, object]) -> Made:
        return {
            "id": str(key["id"]),
            "number": str(key["keyId"]),
            "subject": str(key["subjectId"]),
            "tenant": str(key["tenantId"]),
        }

    def _absent(self) -> Made:
        gone = "01900000-0000-7000-8000-000000000000"
        return {"id": f"apk_{gone}", "number": "987654", "subject": f"subject_{gone}", "tenant": ACME}

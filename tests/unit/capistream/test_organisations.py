"""Commands about organisations and users."""

import sqlite3
from contextlib import closing

import pytest

from runtime.errors import CapistreamError
from tests.unit.capistream.commands import Commands

ANNA = "anna@shop.example"


@pytest.fixture
def org(commands: Commands) -> str:
    """The id of an organisation that Anna owns."""
    made: str = commands.ask("org", "create", "Shop", "--owner", f" {ANNA.upper()} ")[
        "organisationId"
    ]
    return made


def test_an_organisation_has_its_owner(commands: Commands, org: str) -> None:
    (member,) = commands.ask("org", "members", "Shop")["members"]
    assert (member["email"], member["role"]) == (ANNA, "owner")
    (found,) = commands.ask("org", "list")["organisations"]
    assert (found["organisationId"], found["name"], found["plan"]) == (org, "Shop", "unlimited")
    (user,) = commands.ask("user", "list")["users"]
    assert (user["email"], user["lastLoginAt"]) == (ANNA, None)


def test_what_a_plan_allows_is_shown(commands: Commands, org: str) -> None:
    commands.in_store(lambda store: store.add_domain("shop.example", org, {}))
    shown = commands.ask("org", "show", org)
    assert (shown["monthlyEvents"], shown["domains"], shown["hosts"]) == (
        None,
        None,
        ["shop.example"],
    )


def test_a_plan_is_chosen_at_once_or_later(commands: Commands) -> None:
    commands.ask("org", "create", "Pro shop", "--owner", ANNA, "--plan", "pro")
    assert commands.ask("org", "show", "Pro shop")["monthlyEvents"] == 500_000
    put = commands.ask("org", "plan", "Pro shop", "free", "--subscription", "inactive")
    assert (put["plan"], put["subscription"], put["hosts"]) == ("free", "inactive", [])
    assert commands.ask("org", "show", "Pro shop")["logRetentionSeconds"] == 3600


def test_an_organisation_that_a_domain_makes_is_on_the_default_plan(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.in_store(lambda store: store.add_domain("b.example", "Known", {}))
    monkeypatch.setenv("CAPISTREAM_MANAGE__DEFAULT_PLAN", "free")
    commands.in_store(lambda store: store.add_domain("a.example", "New", {}))
    assert commands.ask("org", "show", "New")["plan"] == "free"
    monkeypatch.setenv("CAPISTREAM_MANAGE__DEFAULT_PLAN", "gold")
    ran = commands.run("domain", "add", "c.example", "--org", "Newer")
    assert isinstance(ran.exception, CapistreamError)
    assert "plan: 'gold' is not one of" in str(ran.exception)
    assert len(commands.ask("org", "list")["organisations"]) == 2


def test_people_join(commands: Commands, org: str) -> None:
    added = commands.ask("user", "add", "ben@shop.example", "--org", "Shop", "--role", "admin")
    assert (added["organisationId"], added["role"]) == (org, "admin")
    commands.ask("user", "add", "carla@shop.example")
    roles = {m["email"]: m["role"] for m in commands.ask("org", "members", org)["members"]}
    assert roles == {ANNA: "owner", "ben@shop.example": "admin"}
    assert len(commands.ask("user", "list")["users"]) == 3


def test_an_organisation_without_an_owner_gets_one(commands: Commands) -> None:
    commands.in_store(lambda store: store.add_domain("shop.example", "Made by a domain", {}))
    assert commands.ask("org", "members", "Made by a domain") == {"members": []}
    commands.ask("user", "add", ANNA, "--org", "Made by a domain", "--role", "owner")
    (member,) = commands.ask("org", "members", "Made by a domain")["members"]
    assert member["role"] == "owner"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["org", "create", "Other", "--owner", "nobody"], "must be an e-mail address"),
        (["org", "create", " ", "--owner", ANNA], "name: "),
        (["org", "create", "x" * 101, "--owner", ANNA], "name: "),
        (["org", "create", "Other", "--owner", ANNA, "--plan", "gold"], "'gold' is not one of"),
        (["org", "plan", "Shop", "gold"], "plan: 'gold' is not one of"),
        (["org", "show", "Nobody's"], "there is no organisation Nobody's"),
        (["user", "add", ANNA, "--org", "Shop"], f"{ANNA} is owner there already"),
        (
            ["user", "add", "b@shop.example", "--org", "Shop", "--role", "owner"],
            "has an owner: anna",
        ),
    ],
)
@pytest.mark.usefixtures("org")
def test_what_cannot_be_is_told(commands: Commands, arguments: list[str], message: str) -> None:
    before = commands.ask("org", "list"), commands.ask("user", "list")
    ran = commands.run(*arguments)
    assert isinstance(ran.exception, CapistreamError)
    assert message in str(ran.exception)
    assert (commands.ask("org", "list"), commands.ask("user", "list")) == before


def test_a_role_that_there_is_not_is_refused(commands: Commands, org: str) -> None:
    ran = commands.run("user", "add", "b@shop.example", "--org", org, "--role", "king")
    assert ran.exit_code == 2
    assert "owner, admin, member" in ran.output
    assert len(commands.ask("user", "list")["users"]) == 1


def test_a_name_of_several_is_not_guessed(commands: Commands, org: str) -> None:
    other = commands.ask("org", "create", "Shop", "--owner", "ben@shop.example")["organisationId"]
    ran = commands.run("org", "show", "Shop")
    assert isinstance(ran.exception, CapistreamError)
    assert all(one in str(ran.exception) for one in (org, other))
    assert commands.ask("org", "show", other)["organisationId"] == other


def test_a_person_reads_tables(commands: Commands, org: str) -> None:
    assert "No user" not in commands.run("user", "list").stdout
    shown = commands.run("org", "list").stdout
    assert "organisationId" in shown
    assert org in shown
    assert "+00:00" in shown


def test_every_change_is_on_record(commands: Commands, org: str) -> None:
    commands.ask("user", "add", "ben@shop.example", "--org", org)
    commands.ask("user", "add", "carla@shop.example")
    commands.ask("org", "plan", org, "pro")
    with closing(sqlite3.connect(commands.directory / "capistream.db")) as database:
        rows = database.execute(
            "SELECT action, actor, organisation_id FROM admin_actions ORDER BY at, id"
        ).fetchall()
    assert sorted(rows) == sorted(
        [
            ("organisation.create", "command", org),
            ("member.add", "command", org),
            ("user.add", "command", None),
            ("plan.set", "command", org),
        ]
    )

"""What Dockerfiles could do better: rules and words of the reference's build checks."""

from __future__ import annotations

import pytest

from engine.builder.build_checks import Checks, Surroundings, findings, parse_checks
from engine.builder.dockerfile import parse_dockerfile
from engine.builder.ignore import parse_ignore
from engine.builder.stages import make_plan
from engine.errors import InvalidRequest
from engine.oci.image_config import ImageConfig, ImageDocument
from engine.oci.platform import Platform
from tests.engine.builder.conftest import Builds

HERE = Platform("linux", "amd64")
KNOWN = {"TARGETPLATFORM": "linux/amd64", "BUILDPLATFORM": "linux/amd64"}


def found(text: str, checks: Checks | None = None, *names: str) -> list[str]:
    dockerfile = parse_dockerfile(text.encode())
    plan = make_plan(dockerfile, {"GIVEN": "image"}, KNOWN)
    wanted = checks or parse_checks(dockerfile.checks or "skip=none")
    config = ImageConfig(env=tuple(f"{name}=" for name in names))
    base = ImageDocument(HERE, config, ())
    around = Surroundings(KNOWN, lambda _: base, parse_ignore("# no\nout\n*.log\n"), HERE)
    return [str(each) for each in findings(dockerfile, plan, wanted, around)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM a AS Up\n", "StageNameCasing: Stage name 'Up' should be lowercase (line 1)"),
        ("FROM a as b\n", "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"),
        ("FROM a\nRUN x \\\n\n y\n", "NoEmptyContinuation: Empty continuation line (line 2)"),
        (
            "FROM a\nRUN x\ncopy a b\n",
            "ConsistentInstructionCasing: Command 'copy' should match the case of the command "
            "majority (uppercase) (line 3)",
        ),
        (
            "FROM a AS b\nFROM c AS b\n",
            'DuplicateStageName: Duplicate stage name "b", stage names should be unique (line 2)',
        ),
        (
            "FROM a AS scratch\n",
            'ReservedStageName: Stage name should not use the same name as reserved stage "scratch"'
            " (line 1)",
        ),
        (
            "FROM a\nCMD x\n",
            "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended "
            "behavior related to OS signals (line 2)",
        ),
        (
            "FROM a\nMAINTAINER me\n",
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label "
            "(line 2)",
        ),
        (
            "FROM --platform=${BULIDPLATFORM:-$BUILDPLATFORM}$PLATFORM a\n",
            "UndefinedArgInFrom: FROM argument 'PLATFORM' is not declared (did you mean "
            "BUILDPLATFORM?) (line 1)",
        ),
        (
            "FROM a\nWORKDIR app/\nWORKDIR b\n",
            'WorkdirRelativePath: Relative workdir "app/" can have unexpected results if the base '
            "image changes (line 2)",
        ),
        (
            "FROM a\nARG DIR_ASSETS\nCOPY $DIR_ASSET ${OTHER:-x} /b/\n",
            "UndefinedVar: Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?) "
            "(line 3)",
        ),
        (
            'FROM a\nCMD ["x"]\nCMD ["y"]\n',
            "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the "
            "same stage because only the last one will be used (line 2)",
        ),
        (
            "FROM a\nENV name value\n",
            'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value"'
            " format (line 2)",
        ),
        (
            "FROM --platform=${TARGETPLATFORM} a\n",
            "RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is "
            "redundant as this is the default behavior (line 1)",
        ),
        (
            "FROM a\nARG GITHUB_TOKEN\n",
            "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "
            '"GITHUB_TOKEN") (line 2)',
        ),
        (
            "ARG GIVEN\nFROM $GIVEN\n",
            "InvalidDefaultArgInFrom: Default value for ARG $GIVEN results in empty or invalid "
            "base image name (line 2)",
        ),
        (
            "FROM --platform=linux/amd64 a\n",
            'FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "'
            'linux/amd64" (line 1)',
        ),
        (
            "FROM a\nEXPOSE 80/TcP\n",
            "ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase"
            " (line 2)",
        ),
        (
            "FROM a\nEXPOSE 127.0.0.1:80:80\n",
            "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port "
            "mapping, found '127.0.0.1:80:80' (line 2)",
        ),
        (
            "# check=experimental=all\n# other words\nARG foo=bar\nFROM a\n",
            "InvalidDefinitionDescription: Comment for ARG should follow the format: "
            "`# foo <description>` (line 3)",
        ),
        (
            "FROM a\nCOPY ./out/x in /\n",
            'CopyIgnoredFile: Attempting to Copy file "out/x" that is excluded by .dockerignore '
            "(line 2)",
        ),
        (
            "FROM a\nADD in/a a.log https://b.log http://c/out /\n",
            'CopyIgnoredFile: Attempting to Add file "a.log" that is excluded by .dockerignore '
            "(line 2)",
        ),
    ],
)
def test_each_rule_alone(text: str, said: str) -> None:
    assert found(text) == [said]


def test_what_breaks_no_rule() -> None:
    text = """\
# what this is
ARG BASE=image
FROM --platform=linux/arm64 $BASE AS for-arm64
ARG TOKEN_FILE KEY_VERSION=1
ENV A=1 B=$A PATH=/x:$PATH
WORKDIR /w
FROM for-arm64 AS next
SHELL ["sh", "-c"]
WORKDIR below/$KEY_VERSION
COPY --from=for-arm64 \\$NONE '$NONE' ${NONE:-x} $FROM_BASE /y/
CMD x
"""
    assert found(text, None, "FROM_BASE", "A") == []


def test_a_base_of_another_platform() -> None:
    other = ImageDocument(Platform("linux", "arm64", "v8"), ImageConfig(), ())
    text = "FROM a\nFROM --platform=$BUILDPLATFORM a\nFROM scratch AS b\nFROM b\n"
    dockerfile = parse_dockerfile(text.encode())
    around = Surroundings(KNOWN, lambda _: other, platform=HERE)
    said = findings(dockerfile, make_plan(dockerfile, {}, KNOWN), Checks(), around)
    assert [str(each) for each in said] == [
        'InvalidBaseImagePlatform: Base image a was pulled with platform "linux/arm64/v8", '
        'expected "linux/amd64" for current build (line 1)'
    ]


def test_files_that_a_pattern_takes_back_are_left_alone() -> None:
    dockerfile = parse_dockerfile(b"FROM scratch\nCOPY out/a /\n")
    plan = make_plan(dockerfile, {}, KNOWN)
    for ignored, count in (("out", 1), ("out\n!out/a", 0), ("", 0)):
        around = Surroundings(KNOWN, lambda _: None, parse_ignore(ignored))
        assert len(findings(dockerfile, plan, Checks(), around)) == count


def test_rules_are_skipped_for_all_or_for_one_instruction() -> None:
    text = "FROM a as B\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nMAINTAINER me\n"
    rules = [each.partition(":")[0] for each in found(text)]
    assert rules == ["StageNameCasing", "FromAsCasing", "MaintainerDeprecated"]
    assert len(found(f"# check=skip=StageNameCasing, FromAsCasing\n{text}")) == 1
    assert found(f"# check=skip=all\n{text}") == []
    with pytest.raises(InvalidRequest, match="invalid check option 'skipall'"):
        found(f"# check=skipall\n{text}")


def test_a_build_is_checked_where_that_is_asked_for(builds: Builds) -> None:
    text = "FROM busybox:test\nCMD echo $UNKNOWN\nCOPY Dockerfile $UNKNOWN/\n"
    assert "[Warning]" not in builds.ok(text).output
    warned = builds.ok(f"# check=skip=JSONArgsRecommended\n{text}").output
    assert warned.count("[Warning]") == 1
    assert "[Warning] UndefinedVar: Usage of undefined variable '$UNKNOWN' (line 4)" in warned
    given = {"BUILDKIT_DOCKERFILE_CHECK": "error=true"}
    refused = builds.build(text, buildargs=given)
    assert refused.status == 400
    assert "lint violation found for rules: JSONArgsRecommended, UndefinedVar" in refused.error


def test_checks_alone_build_nothing(builds: Builds) -> None:
    text = "FROM busybox:test\nRUN exit 1\n"
    assert builds.ok(text, check="1", t="none").output == "Check complete, no warnings found.\n"
    refused = builds.build(
        f"{text}COPY out/a /\nCMD x\n",
        {"out/a": "a", ".dockerignore": "out\n"},
        check="1",
        t="none",
    )
    assert refused.status == 400
    assert refused.error.startswith("Check complete, 2 warnings have been found:\n- CopyIgnored")
    assert "unknown instruction" in builds.build("FROM a\nCOPYS a /\n", check="1").error
    assert builds.daemon.call("GET", "/images/none/json")[0] == 404

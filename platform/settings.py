"""Settings, in rising order of precedence: built in, file, environment, command line.

The file is the first of ``$SENSORIUM_CONFIG``, ``sensorium.toml`` in the working folder and
``~/.config/sensorium/sensorium.toml`` that is there. Environment variables begin with ``SENSORIUM_``; Ray's own
``RAY_ADDRESS`` is understood too.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from sensorium.platform.errors import InvalidSetting

__all__ = ["Settings"]


class Settings(BaseSettings):
    """What a user can set once for all commands."""

    model_config = SettingsConfigDict(env_prefix="SENSORIUM_", extra="forbid", frozen=True, populate_by_name=True)

    lake: str = Field("./lake", min_length=1, description="URL of the lake: a path, s3://…, gs://…, memory://…")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the lake's fsspec driver, as JSON"
    )
    address: str = Field(
        "",
        description="Ray cluster to use (ray://host:port, auto); empty starts a local one",
        validation_alias=AliasChoices("SENSORIUM_ADDRESS", "RAY_ADDRESS"),
    )
    object_store_mb: int = Field(
        0, ge=0, description="Ray's object store in MB; 0 takes a fifth of the memory, at most 4096"
    )
    cpus: int = Field(0, ge=0, description="Cores that a local Ray may use; 0 takes all")

    @classmethod
    def load(cls, **flags: Any) -> Settings:
        """The settings in force; ``flags`` that are None do not count.

        Raises:
            InvalidSetting: names the setting, its value and what is allowed.
        """
        try:
            return cls(**{key: value for key, value in flags.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]).lower().removeprefix("sensorium_")
            raise InvalidSetting(
                f"setting {name!r}: {first['msg']}; got {first.get('input')!r}. "
                f"Settings come from {_file() or 'no file'}, SENSORIUM_* variables and flags."
            ) from error
        except SettingsError as error:  # what is not JSON may hold secrets: the value is not repeated
            field = re.search(r'field "(\w+)"', str(error))
            name = f"SENSORIUM_{field[1].upper()}" if field else "one of the SENSORIUM_* variables"
            raise InvalidSetting(
                f"settings cannot be read: {name} is not JSON. Quote it as one JSON object."
            ) from error
        except ValueError as error:  # the file is not TOML
            raise InvalidSetting(
                f"settings cannot be read: {error}. Look at {_file() or 'the SENSORIUM_* variables'}."
            ) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before file."""
        file = _file()
        if file is None:
            return (init_settings, env_settings)
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file))


def _file() -> Path | None:
    named = os.environ.get("SENSORIUM_CONFIG")
    if named:
        path = Path(named)
        if not path.is_file():
            raise InvalidSetting(f"SENSORIUM_CONFIG names {named!r}, which is not a file.")
        return path
    places = (Path("sensorium.toml"), Path.home() / ".config" / "sensorium" / "sensorium.toml")
    return next((path for path in places if path.is_file()), None)

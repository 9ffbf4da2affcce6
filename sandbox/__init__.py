"""Stand-ins for the ad platforms' Conversions APIs, written from the vendors' documents alone, and
where there are none (SnackVideo), from what its users have published.

One aiohttp server answers at the real paths of Meta, TikTok, Pinterest, Snapchat, Reddit and
SnackVideo, with their bodies and their refusals; it shows what it got and misbehaves on request.
It shares no code with what it tests, so a misreading of a vendor's rule has to be made twice to
go unnoticed.
"""

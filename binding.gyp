# Not in the package: pnpm, Yarn and others compile whatever has this file. What it includes is.
{ "includes": ["addon.gypi"] }

# tests of the engine and of the plugin host

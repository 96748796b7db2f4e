# daemon/libengine.la: plugins, sampler chains and the engine thread; the sockets and the queue are not in it

/* An ordinary SDL game's view of its pads, one line an event. Ends at the guide button, or after 30 s. */
#include <SDL.h>
#include <stdio.h>

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    SDL_SetHint(SDL_HINT_JOYSTICK_ALLOW_BACKGROUND_EVENTS, "1");
    if (SDL_Init(SDL_INIT_VIDEO | SDL_INIT_GAMECONTROLLER) != 0) {
        printf("init failed: %s\n", SDL_GetError());
        return 1;
    }
    SDL_version version;
    SDL_GetVersion(&version);
    printf("sdl %d.%d.%d ready with %d pads\n", version.major, version.minor, version.patch, SDL_NumJoysticks());
    SDL_GameController *pad = NULL;
    Uint32 end = SDL_GetTicks() + 30000;
    while (SDL_GetTicks() < end) {
        SDL_Event event;
        while (SDL_PollEvent(&event)) {
            switch (event.type) {
            case SDL_CONTROLLERDEVICEADDED:
                pad = SDL_GameControllerOpen(event.cdevice.which);
                printf("added %s rumble %d of %d\n", SDL_GameControllerName(pad),
                       SDL_GameControllerHasRumble(pad), SDL_NumJoysticks());
                break;
            case SDL_CONTROLLERDEVICEREMOVED:
                printf("removed\n");
                SDL_GameControllerClose(pad);
                pad = NULL;
                break;
            case SDL_CONTROLLERBUTTONDOWN:
            case SDL_CONTROLLERBUTTONUP:
                printf("%s %s\n", SDL_GameControllerGetStringForButton(event.cbutton.button),
                       event.cbutton.state ? "down" : "up");
                if (event.cbutton.state && event.cbutton.button == SDL_CONTROLLER_BUTTON_START)
                    printf("rumble %d\n", SDL_GameControllerRumble(pad, 0x4000, 0x8000, 300));
                if (event.cbutton.state && event.cbutton.button == SDL_CONTROLLER_BUTTON_GUIDE)
                    return 0;
                break;
            case SDL_CONTROLLERAXISMOTION:
                printf("%s %d\n", SDL_GameControllerGetStringForAxis(event.caxis.axis), event.caxis.value);
                break;
            }
        }
        SDL_Delay(1);
    }
    return 2;
}
